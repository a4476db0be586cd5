"""Block by block: are intermediate layers bound to the task by classifiers, and kept general by a contrastive loss?"""

from cds_lib.study.plan.table import Cell, Table
from cds_lib.study.tables._headline import BLOCKS, METHODS, measured


def cells(profile: str) -> list[Cell]:
    """Return for every block probes on CIFAR-100 and CIFAR-10, invariance, CKA with the last block and the baseline."""
    found = []
    for measure, source in (("probe_top1", "probe"), ("transfer_top1", "transfer"), ("invariance", "similarity")):
        for block in BLOCKS:
            found += measured(profile, f"{measure}_{block}", source)
    for block in BLOCKS[:-1]:  # the CKA of the last block with itself is 1 for every method
        found += measured(profile, f"cka_last_{block}", "similarity")
    for block in BLOCKS:
        found += measured(profile, f"cka_baseline_{block}", "similarity", METHODS[1:])
    return found


TABLE = Table(
    title="Layer by layer",
    topic="probes, transfer, invariance and similarity in ResNet-18 on CIFAR-100",
    question="Do classifiers on intermediate layers bind these to the task, and does a contrastive loss keep them "
    "general?",
    unpublished="no such figure is on the poster",
    build=cells,
)
