"""Plain training: cross-entropy at the end."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Baseline(nn.Module):
    """Cross-entropy of the backbone's logits on the first view."""

    views = 1

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """view (B, 3, S, S), labels (B,) -> {"cross_entropy"}."""
        return {"cross_entropy": F.cross_entropy(self.backbone(view).float(), labels)}
