"""The claims of Table 1's ResNet-18 on other images: those that the same runs held back for validation.

All runs are tested on the same test images, so a verdict covers chance between seeds and not the choice of the images.
The seeds of the tables chose nothing by their validation images (`tuning` has a seed and a split of its own).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.display import HTML

from cds_lib.findings import comparisons
from cds_lib.findings.comparisons import ABOVE, BASELINE, CLASSIFIERS, FEW
from cds_lib.reporting import html, naming, report
from cds_lib.study import statistics
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables.tuning import VALIDATION
from cds_lib.text import listed

if TYPE_CHECKING:
    from cds_lib.session import Session


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against every other method, in one item; none in smoke, without validation images or with too few seeds."""
    if profile == "smoke":
        return []
    cells = comparisons.headline_cells(profile, seeds)
    cds = report.by_seed(cells["cds"], VALIDATION, store)
    parts, open_ones = [], []
    for row in (BASELINE, *CLASSIFIERS):
        found = statistics.paired_difference(cds, report.by_seed(cells[row], VALIDATION, store))
        if comparisons.outcome(found) != FEW:
            name = naming.method_name(row)
            parts.append(f"{name} {comparisons.interval(found)} (n = {found.n})")
            if comparisons.outcome(found) != ABOVE:
                open_ones.append(name)
    if not parts:
        return []
    images = f"{cells['cds'].specs[0].budget.val_size:,} validation images"
    text = (
        f"Top-1 on the {images} of the same runs of ResNet-18, used for no selection, CDS minus each of the others: "
        f"{', '.join(parts)}."
    )
    if open_ones:
        text += f" So there CDS is not above {listed(open_ones)} by an interval that excludes 0."
    return [text]


def shown(study: Session) -> HTML:
    """The item as a list; nothing where there is nothing to say."""
    return HTML(html.bullets(sentences(study.profile, study.seeds, study.store)))
