"""Table 3: does CDS beat deep supervision with classifiers on ImageNet, and does that depend on the max-pool?"""

from cds_lib.study.plan.catalogue import DEEP_SUPERVISION, IMAGENET_NETWORKS
from cds_lib.study.plan.protocols import BREADTH_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import NO_MAX_POOL, supervised
from cds_lib.study.plan.table import TOP1, TOP5, Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the cells of three networks under five methods, with the stem's max-pool and, as released, without it.

    The published numbers stand beside both, because it is not known which network they are from.
    """
    return [
        cell(
            supervised(profile, "imagenet", network, method, stem=stem),
            BREADTH_SEEDS[profile],
            setting=setting,
            metric=metric,
            paper=published("table_3", f"{prefix}_{network}", method),
        )
        for setting, stem in (("supervised", None), ("supervised_no_max_pool", NO_MAX_POOL))
        for metric, prefix in ((TOP1, "top1"), (TOP5, "top5"))
        for network in IMAGENET_NETWORKS
        for method in DEEP_SUPERVISION
    ]


TABLE = Table(
    title="Table 3",
    topic="ImageNet, three ResNets, deep supervision, with and without the max-pool",
    question="Does contrastive deep supervision beat deep supervision with classifiers on ImageNet, and does that "
    "depend on the max-pool that the released network lacks?",
    published=("table_3",),
    build=cells,
    average="cds",
)
