"""Does CDS regularise: a higher training loss, and a higher test accuracy?"""

from cds_lib.study.plan.table import HISTORY, METRICS, TOP1, Table
from cds_lib.study.tables._headline import measured

_PUBLISHED = "fig_training_loss_end_values"

TABLE = Table(
    title="Training loss of ResNet-18 on CIFAR-100",
    question="Does contrastive deep supervision regularise: a higher training cross-entropy at the end, and a higher "
    "test accuracy?",
    published=(_PUBLISHED,),
    build=lambda profile: [
        *measured(profile, "train_cross_entropy", HISTORY, table_id=_PUBLISHED, column="final_cross_entropy"),
        *measured(profile, TOP1, METRICS),  # its published claim is Table 1's
    ],
)
