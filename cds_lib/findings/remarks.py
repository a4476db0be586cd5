"""What is said around the verdicts, in the summary, the index and the README: the answer in short, and the controls."""

from __future__ import annotations

from dataclasses import dataclass

from cds_lib.findings import breadth, comparisons, control, held_out
from cds_lib.reporting import formats, report
from cds_lib.reporting.grid import Grid
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tables import deviations as ablations


@dataclass(frozen=True)
class Remarks:
    """short: the answer in a few sentences; grids: the control of two views, and the networks of Table 1; images: CDS
    on images that chose nothing. All are empty in smoke."""

    short: list[str]
    grids: list[Grid]
    images: list[str]


def collect(profile: str, seeds: Seeds, store: Store) -> Remarks:
    """What the finished runs say."""
    if profile == "smoke":
        return Remarks([], [], [])
    return Remarks(
        short=[
            *_headline(profile, seeds, store),
            *control.in_short(profile, seeds, store),
            *breadth.in_short(profile, seeds, store),
            *control.as_many_steps(profile, seeds, store)[:1],
        ],
        grids=[
            *control.two_views(profile, seeds, store),
            *breadth.grids(TABLES["table1_cifar100"], profile, seeds, store),
        ],
        images=held_out.sentences(profile, seeds, store),
    )


def _headline(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against the baseline, on ResNet-18 and CIFAR-100; none without a seed of both."""
    table1 = TABLES["table1_cifar100"].cells(profile, seeds)
    cells = {cell.method: cell for cell in table1 if cell.model == ablations.MODEL}
    cds, baseline = (report.by_seed(cells[row], cells[row].metric, store) for row in ("cds", "baseline"))
    if not cds.keys() & baseline.keys():
        return []
    _, difference = comparisons.compare(cds, baseline)
    published = cells["cds"].paper - cells["baseline"].paper
    return [
        f"CIFAR-100, ResNet-18, top-1 in points: CDS minus the baseline {difference}; published "
        f"{formats.signed(published)}."
    ]
