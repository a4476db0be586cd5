"""Few labels: does CDS without labels on all images beat training on the labelled ones?"""

from cds_lib.study.plan import settings
from cds_lib.study.plan.protocols import HEADLINE_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.table import Cell, Table, cell

ROWS = {"baseline": "baseline", "baseline_matched": None, "cds_simclr": "cds"}  # our row -> the published one


def cells(profile: str) -> list[Cell]:
    """Return the cells: two data sets, four labelled fractions, two baselines and CDS with the SimCLR loss."""
    return [
        cell(
            settings.semi_supervised(profile, dataset, row, percent),
            HEADLINE_SEEDS[profile],
            method=row,
            paper=theirs and published(f"fig_semi_supervised_{dataset}", theirs, f"{percent}%"),
        )
        for dataset in ("cifar100", "cifar10")
        for percent in (10, 20, 30, 40)
        for row, theirs in ROWS.items()
    ]


TABLE = Table(
    title="Semi-supervised learning on CIFAR-100 and CIFAR-10",
    question="With labels for 10 to 40 % of the training images, does contrastive deep supervision without labels on "
    "all of them beat training on the labelled ones?",
    published=("fig_semi_supervised_cifar100", "fig_semi_supervised_cifar10"),
    build=cells,
    names={"baseline_matched": "baseline, as many steps"}
    | {f"semi_{percent}": f"{percent} % labelled" for percent in (10, 20, 30, 40)},
    colours={"baseline_matched": "#999999"},
)
