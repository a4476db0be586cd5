"""Table 7: does distilled CDS beat other distillation methods on ImageNet?"""

from cds_lib.study.plan.catalogue import DISTILLATION, IMAGENET_NETWORKS
from cds_lib.study.plan.protocols import BREADTH_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import distilled, student
from cds_lib.study.plan.table import TOP1, TOP5, Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the cells of three students. CC, OKD and SSKD are run for ResNet-18 alone, as published."""
    return [
        cell(
            (distilled if method in DISTILLATION else student)(profile, "imagenet", network, method),
            BREADTH_SEEDS[profile],
            metric=metric,
            paper=published("table_7", f"{prefix}_{network}", method),
            reference=None if method == "baseline" else ("imagenet", network, "baseline", "supervised"),
        )
        for metric, prefix in ((TOP1, "top1"), (TOP5, "top5"))
        for network in IMAGENET_NETWORKS
        for method in ("baseline", *DISTILLATION)
        if published("table_7", f"{prefix}_{network}", method) is not None
    ]


TABLE = Table(
    title="Table 7",
    topic="distillation on ImageNet, three students",
    question="Does distilled contrastive deep supervision beat eight other ways of distilling on ImageNet?",
    published=("table_7",),
    build=cells,
    average="cds_kd",
)
