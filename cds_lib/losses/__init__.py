"""Loss functions on tensors."""

from cds_lib.losses.contrastive import supcon_loss

__all__ = ["supcon_loss"]
