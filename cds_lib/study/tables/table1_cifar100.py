"""Table 1: does CDS beat deep supervision with classifiers on CIFAR-100, for ten networks?"""

from cds_lib.study.plan.catalogue import DEEP_SUPERVISION, TEN_NETWORKS
from cds_lib.study.plan.protocols import BREADTH_SEEDS, HEADLINE_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.table import Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the cells of ten networks under five methods; the headline claim is about ResNet-18."""
    return [
        cell(
            supervised(profile, "cifar100", network, method),
            HEADLINE_SEEDS[profile] if network == "resnet18" else BREADTH_SEEDS[profile],
            paper=published("table_1", method, network),
        )
        for network in TEN_NETWORKS
        for method in DEEP_SUPERVISION
    ]


TABLE = Table(
    title="Table 1",
    topic="CIFAR-100, ten networks, deep supervision",
    question="Does contrastive deep supervision beat the plain baseline and deep supervision with classifiers on "
    "CIFAR-100, for every one of ten networks?",
    published=("table_1",),
    build=cells,
    average="cds",
)
