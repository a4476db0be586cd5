"""Is a network that was trained with CDS better calibrated?"""

from cds_lib.study.plan.table import METRICS, TOP1, Table
from cds_lib.study.tables._headline import measured

TABLE = Table(
    title="Calibration of ResNet-18 on CIFAR-100",
    question="Is a network that was trained with contrastive deep supervision better calibrated?",
    published=("fig_calibration_numbers",),
    build=lambda profile: [
        *measured(profile, "ece", "calibration", table_id="fig_calibration_numbers", column="ece_percent"),
        *measured(profile, "nll", "calibration"),
        *measured(profile, TOP1, METRICS),  # its published claim is Table 1's
    ],
)
