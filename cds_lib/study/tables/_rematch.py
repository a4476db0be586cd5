"""The cells of what was registered: arms of the rematch, whose settings tuning may have yet to choose."""

from __future__ import annotations

from cds_lib.study.plan.rematch import CONTROL, DATASET, MODEL
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import METRICS, TOP1, Cell


def arm_cell(
    profile: str,
    run: RunSpec | None,
    seeds: tuple[int, ...],
    method: str,
    setting: str,
    metric: str = TOP1,
    source: str = METRICS,
) -> Cell:
    """A row that is compared with the control of its setting; one seed in smoke, which shows that it works."""
    reference = (DATASET, MODEL, CONTROL, setting) if method != CONTROL else None
    seeds = seeds if profile != "smoke" else (0,)
    return Cell(DATASET, MODEL, method, setting, metric, run, seeds, reference=reference, source=source)
