"""Table 2: the comparison of Table 1 on CIFAR-10, where accuracies are near their ceiling."""

from cds_lib.study.plan.catalogue import DEEP_SUPERVISION, TEN_NETWORKS
from cds_lib.study.plan.protocols import BREADTH_SEEDS
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.table import Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the cells of ten networks under five methods."""
    return [
        cell(supervised(profile, "cifar10", network, method), BREADTH_SEEDS[profile])
        for network in TEN_NETWORKS
        for method in DEEP_SUPERVISION
    ]


TABLE = Table(
    title="Table 2",
    topic="CIFAR-10, ten networks, deep supervision",
    question="Does contrastive deep supervision beat the plain baseline and deep supervision with classifiers on "
    "CIFAR-10, where accuracies are near their ceiling?",
    unpublished="the paper's CIFAR-10 table is not on the poster",
    build=cells,
)
