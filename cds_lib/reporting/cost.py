"""What the methods of a table cost beside its baseline."""

from __future__ import annotations

from cds_lib.reporting import naming
from cds_lib.study import costs
from cds_lib.study.table import Table


def sentence(table: Table, profile: str) -> str:
    """Floating-point operations of each method's training, counted and not measured, in multiples of the baseline's on
    the same network and data set; the range where networks differ. The runs that a run starts from are not in it."""
    flops: dict[str, dict[tuple[str, ...], float]] = {}
    for cell in table.cells(profile, None):
        place = (cell.dataset, cell.model, cell.setting if cell.setting != "distill" else "supervised")
        flops.setdefault(cell.method, {})[place] = costs.run_cost(cell.specs[0]).train_flops
    baseline = flops.pop("baseline")
    parts = []
    for method, found in flops.items():
        ratios = [f"{value / baseline[place]:.1f}" for place, value in found.items()]
        least, most = min(ratios, key=float), max(ratios, key=float)
        parts.append(f"{naming.method_name(method)} {least if least == most else f'{least} to {most}'}")
    return (
        "Methods do not have equal compute. What a training takes, in multiples of the baseline's floating-point "
        f"operations (counted; a teacher's own training apart): {'; '.join(parts)}."
    )
