"""Detector training: the losses are torchvision's own."""

from typing import Any

from torch import Tensor, nn

from cds_lib.methods.method import Method


class Detection(Method):
    """The detector's own losses, each with weight 1: classification and boxes, for Faster R-CNN of both its steps.

    Args:
        backbone: a detector of `create_detector`; it is what is evaluated.
    """

    compiles = False  # it would be compiled again for every image size and number of boxes

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def losses(self, images: list[Tensor], labels: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images (3, H, W) in 0..1 and a target each: {"boxes" (N, 4), "labels" (N,)} -> named losses."""
        return self.backbone(images, labels)
