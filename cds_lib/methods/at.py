"""Attention transfer (Zagoruyko and Komodakis)."""

import torch
from torch import Tensor, nn

from cds_lib.losses import attention_loss, cross_entropy
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import forward_stages, pooled_and_logits, stage_taps


class AttentionTransfer(WithTeacher):
    """Attention transfer: loss = CE + weight * sum over the stages of attention_loss(student's map, teacher's map).

    It uses all four stages and weight 1000, as HobbitLong/RepDistiller does for CIFAR-100.
    """

    def __init__(self, backbone: nn.Module, teacher: nn.Module, weight: float = 1000.0):
        super().__init__()
        self.backbone = backbone
        self.weight = weight
        self.hold_teacher(teacher)
        self.indices, self.teacher_indices = (stage_taps(net).indices for net in (backbone, self.teacher.backbone))

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy" and "attention_<stage>", ... for view (B, 3, S, S) and labels (B,)."""
        maps, features = forward_stages(self.backbone, view, self.indices)
        _, logits = pooled_and_logits(self.backbone, features)
        losses = {"cross_entropy": cross_entropy(logits, labels)}
        with torch.no_grad():
            targets, _ = forward_stages(self.teacher.backbone, view, self.teacher_indices)
        for stage, (student, target) in enumerate(zip(maps, targets, strict=True), 1):
            losses[f"attention_{stage}"] = self.weight * attention_loss(student, target)
        return losses
