"""How much of the class can be read linearly from each of the four stages?"""

from cds_lib.study.plan.table import Table
from cds_lib.study.tables._headline import STAGES, measured

TABLE = Table(
    title="Linear probes of the four stages of ResNet-18 on CIFAR-100",
    question="How much of the class can be read linearly from each stage, and does contrastive deep supervision change "
    "that?",
    unpublished="no such figure is on the poster",
    build=lambda profile: [cell for stage in STAGES for cell in measured(profile, f"probe_top1_{stage}", "probe")],
)
