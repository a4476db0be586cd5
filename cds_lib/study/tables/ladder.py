"""The ladder: does the effect of the rematch grow towards the paper's scale? As registered in docs/registration.md.

The pair of the rematch is trained with one factor changed at a time, and at one corner with several factors changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cds_lib.study.plan.rematch import ARMS, CDS_BOTH, CONTROL, arm_cell, final
from cds_lib.study.plan.table import Cell, Table

SEEDS = (6, 7, 8)
# Factor -> display name of its rungs.
TITLES = {
    "epochs": "{:g} epochs",
    "images": "{:,} images",
    "images_fixed_steps": "{:,} images, as many steps as 5,000",
    "resolution": "{:g} pixels",
    "width": "width {:g}",
    "corner": "{:,} images of 32 pixels",
    "batch": "batches of {:g}",
}
CONFIRMATORY = ("epochs", "images")  # their slopes are tested, over the rungs with three seeds


@dataclass(frozen=True)
class Rung:
    """One value of a factor: the control and CDS with these changes of the budget.

    end: whether it is the first or last rung, where the baseline is trained too; weights: whether CDS is also trained
    with a third and three times the tuned weight; more: seeds that were added to the pair and enter no slope.
    """

    factor: str
    value: float
    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    end: bool = False
    weights: bool = False
    more: tuple[int, ...] = ()

    @property
    def setting(self) -> str:
        return f"{self.factor}_{self.value:g}"

    @property
    def title(self) -> str:
        return TITLES[self.factor].format(self.value)


RUNGS = (
    Rung("epochs", 30, {"epochs": 30}, end=True),
    Rung("epochs", 60),
    Rung("epochs", 120, {"epochs": 120}),
    Rung("epochs", 240, {"epochs": 240}, end=True, weights=True, more=tuple(range(9, 14))),
    Rung("images", 2_500, {"train_size": 2_500}, end=True),
    Rung("images", 5_000),
    Rung("images", 10_000, {"train_size": 10_000}),
    Rung("images", 20_000, {"train_size": 20_000}, weights=True),
    Rung("images", 40_000, {"train_size": 40_000}, seeds=(6,), end=True),
    Rung("images_fixed_steps", 20_000, {"train_size": 20_000, "epochs": 15}, end=True),
    Rung("resolution", 16, end=True),
    Rung("resolution", 24, {"image_size": 24}),
    Rung("resolution", 32, {"image_size": 32}, end=True),
    Rung("width", 0.25, end=True),
    Rung("width", 0.5, {"width": 0.5}, end=True),
    Rung("corner", 20_000, {"train_size": 20_000, "image_size": 32}, seeds=(6, 7)),
    *(Rung("batch", size, {"batch_size": size}) for size in (32, 64, 128, 256)),
)
_WEIGHTS = {f"{CDS_BOTH}_third": (1 / 3, "a third of"), f"{CDS_BOTH}_triple": (3, "three times")}


def _cell(profile: str, rung: Rung, row: str, factor: float = 1) -> Cell:
    """Return a row of a rung: an arm, or CDS with `factor` times its weight."""
    arm = row if row in ARMS else CDS_BOTH
    # Smoke runs only show that everything works, and are the same at every rung.
    run = final(profile, arm, **(rung.changes if profile != "smoke" else {}))
    if run and factor != 1:
        run = final(profile, arm, **rung.changes, weight=round(run.options["weight"] * factor, 6))
    seeds = rung.seeds + rung.more if row in (CONTROL, CDS_BOTH) else rung.seeds
    return arm_cell(profile, run, seeds, row, rung.setting)


def cells(profile: str) -> list[Cell]:
    """Return the rows rung by rung: control, CDS, the baseline at the ends, other weights of CDS at some rungs."""
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
    | {row: f"CDS, {words} the weight" for row, (_, words) in _WEIGHTS.items()},
    own_seeds=True,
    official=False,
)
