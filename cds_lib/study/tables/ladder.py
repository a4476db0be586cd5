"""The ladder (docs/registration.md): the pair of the rematch towards the paper's scale, one factor at a time."""

from __future__ import annotations

from cds_lib.study.plan.ladder import RUNGS, Rung
from cds_lib.study.plan.rematch import ARMS, CDS_BOTH, CONTROL, final
from cds_lib.study.plan.table import Cell, Table
from cds_lib.study.tables._rematch import arm_cell

_WEIGHTS = {f"{CDS_BOTH}_third": (1 / 3, "a third of"), f"{CDS_BOTH}_triple": (3, "three times")}


def _cell(profile: str, rung: Rung, row: str, factor: float = 1) -> Cell:
    """A row of a rung: an arm, CDS with `factor` times the weight."""
    arm = row if row in ARMS else CDS_BOTH
    # A smoke run shows that it works, and is the same at every rung.
    run = final(profile, arm, **(rung.changes if profile != "smoke" else {}))
    if run and factor != 1:
        run = final(profile, arm, **rung.changes, weight=round(run.options["weight"] * factor, 6))
    return arm_cell(profile, run, rung.seeds, row, rung.setting)


def cells(profile: str) -> list[Cell]:
    """Rung by rung: control, CDS, the baseline at the ends, other weights at the last."""
    found = []
    for rung in RUNGS:
        rows = [CONTROL, CDS_BOTH, *(["baseline"] if rung.end else [])]
        found += [_cell(profile, rung, row) for row in rows]
        if rung.weights and profile != "smoke":
            found += [_cell(profile, rung, row, factor) for row, (factor, _) in _WEIGHTS.items()]
    return found


TABLE = Table(
    title="Ladder",
    topic="CDS and its control towards the paper's scale",
    question="Does what the contrastive losses add grow with epochs, images, resolution and width?",
    note="nothing: registered in docs/registration.md",
    build=cells,
    names={rung.setting: rung.title for rung in RUNGS}
    | {row: f"{ARMS[CDS_BOTH].title}, {words} the weight" for row, (_, words) in _WEIGHTS.items()},
    own_seeds=True,
    official=False,
)
