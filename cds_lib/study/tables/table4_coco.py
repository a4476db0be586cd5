"""Table 4: does a backbone that CDS pre-trained give a better detector?"""

from dataclasses import replace

from cds_lib.study.plan.catalogue import DEEP_SUPERVISION
from cds_lib.study.plan.protocols import BREADTH_SEEDS, budget
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Cell, Table, cell

DETECTORS = ("faster_rcnn", "retinanet")
METRICS = {"test_ap_last": "AP", "test_ap_s_last": "AP_S", "test_ap_m_last": "AP_M", "test_ap_l_last": "AP_L"}


def detector(profile: str, name: str, method: str, seed: int = 0) -> RunSpec:
    """Return a detector on COCO whose backbone is the ResNet-50 of Table 3 (with max-pool) that `method` trained."""
    found = budget(profile, "detection", "resnet50")
    if name == "retinanet":  # 0.01 against 0.02 in the 1x schedule; at twice the rate a miniature diverged
        found = replace(found, lr=found.lr / 2)
    sizes = {} if profile == "paper" else {"channels": 64, "box_features": 128}  # {}: sizes of the 1x schedule
    parent = supervised(profile, "imagenet", "resnet50", method, seed)
    return RunSpec("coco", name, "detection", "detect", seed, found, sizes, parent)


def cells(profile: str) -> list[Cell]:
    """Return the cells of two detectors on backbones that five methods pre-trained, with four measures each."""
    return [
        cell(
            detector(profile, name, method),
            BREADTH_SEEDS[profile],
            method=method,
            metric=metric,
            paper=published("table_4", f"{name}_{method}", column),
        )
        for metric, column in METRICS.items()
        for name in DETECTORS
        for method in DEEP_SUPERVISION
    ]


TABLE = Table(
    title="Table 4",
    topic="COCO detection with backbones that each method pre-trained",
    question="Does a backbone that was pre-trained with contrastive deep supervision give a better detector?",
    published=("table_4",),
    build=cells,
    average="cds",
)
