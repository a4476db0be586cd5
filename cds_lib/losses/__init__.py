"""Loss functions on tensors."""

from cds_lib.losses.attention import attention_loss
from cds_lib.losses.contrastive import supcon_loss
from cds_lib.losses.correlation import correlation_loss
from cds_lib.losses.crd import contrast, nce_loss, updated_memory
from cds_lib.losses.kd import kd_loss, soft_cross_entropy
from cds_lib.losses.mimicry import mimicry_loss
from cds_lib.losses.precision import at_least_float32, cross_entropy
from cds_lib.losses.regression import regression_loss
from cds_lib.losses.relational import angle_loss, distance_loss
from cds_lib.losses.similarity import similarity_loss
from cds_lib.losses.sskd import ranked_kd_loss, rotation_similarities

__all__ = [
    "angle_loss",
    "at_least_float32",
    "attention_loss",
    "contrast",
    "correlation_loss",
    "cross_entropy",
    "distance_loss",
    "kd_loss",
    "mimicry_loss",
    "nce_loss",
    "ranked_kd_loss",
    "regression_loss",
    "rotation_similarities",
    "similarity_loss",
    "soft_cross_entropy",
    "supcon_loss",
    "updated_memory",
]
