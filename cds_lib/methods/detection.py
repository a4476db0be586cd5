"""Detector training: the losses are torchvision's own."""

from typing import Any

from torch import Tensor, nn

from cds_lib.methods.method import Method


class Detection(Method):
    """The detector's own losses, each with weight 1: classification and boxes, in both steps of Faster R-CNN.

    Args:
        backbone: a detector from `create_detector`, which is also evaluated.
    """

    compiles = False  # every image size and number of boxes would need its own graph

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def losses(self, images: list[Tensor], labels: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return named losses for images (3, H, W) in 0..1, each with a target {"boxes" (N, 4), "labels" (N,)}."""
        return self.backbone(images, labels)
