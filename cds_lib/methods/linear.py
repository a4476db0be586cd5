"""A linear classifier on a frozen network: the second stage of contrastive pre-training."""

from typing import Self

import torch
from torch import Tensor, nn

from cds_lib.losses import cross_entropy
from cds_lib.methods.method import Method
from cds_lib.models import pooled_and_logits


class LinearClassifier(Method):
    """Train the network's own classifier with cross-entropy; the network is frozen and in eval mode.

    This is the procedure of HobbitLong/SupContrast. `backbone` must already have its pre-trained weights.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        backbone.get_classifier().requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.eval()
        return self

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the term "cross_entropy" for view (B, 3, S, S) and labels (B,)."""
        with torch.no_grad():
            features = self.backbone.forward_features(view)
        _, logits = pooled_and_logits(self.backbone, features)
        return {"cross_entropy": cross_entropy(logits, labels)}
