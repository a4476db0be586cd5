"""Loss functions on tensors."""

from cds_lib.losses.contrastive import supcon_loss
from cds_lib.losses.mimicry import mimicry_loss

__all__ = ["mimicry_loss", "supcon_loss"]
