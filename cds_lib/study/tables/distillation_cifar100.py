"""Distillation on CIFAR-100, under one protocol: does distilled CDS give a better student?"""

from cds_lib.study.plan.catalogue import DISTILLATION
from cds_lib.study.plan.protocols import SEEDS
from cds_lib.study.plan.settings import distilled, student
from cds_lib.study.plan.table import Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the baseline, CDS and every distillation method on ResNet-18 (half as wide in the miniature)."""
    return [
        cell(
            (distilled if method in DISTILLATION else student)(profile, "cifar100", "resnet18", method),
            SEEDS[profile],
            reference=None if method == "baseline" else ("cifar100", "resnet18", "baseline", "supervised"),
        )
        for method in ("baseline", "cds", *DISTILLATION)
    ]


TABLE = Table(
    title="Distillation on CIFAR-100",
    topic="a ResNet-18 student",
    question="Under one protocol, does distilled contrastive deep supervision give a better student than other ways of "
    "distilling the same kind of teacher?",
    unpublished="the paper's numbers for CIFAR distillation are not on the poster",
    build=cells,
)
