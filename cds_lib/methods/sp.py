"""Similarity-preserving knowledge distillation (Tung and Mori)."""

import torch
from torch import Tensor, nn

from cds_lib.losses import cross_entropy, similarity_loss
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import forward_stages, pooled_and_logits, stage_taps


class SimilarityPreserving(WithTeacher):
    """Similarity-preserving: loss = CE + weight * similarity_loss(student's last map, teacher's last map).

    It uses the last stage and weight 3000, as HobbitLong/RepDistiller does for CIFAR-100.
    """

    def __init__(self, backbone: nn.Module, teacher: nn.Module, weight: float = 3000.0):
        super().__init__()
        self.backbone = backbone
        self.weight = weight
        self.hold_teacher(teacher)
        self.last, self.teacher_last = (stage_taps(net).indices[-1:] for net in (backbone, self.teacher.backbone))

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy" and "similarity" for view (B, 3, S, S) and labels (B,)."""
        (student,), features = forward_stages(self.backbone, view, self.last)
        _, logits = pooled_and_logits(self.backbone, features)
        with torch.no_grad():
            (target,), _ = forward_stages(self.teacher.backbone, view, self.teacher_last)
        student, target = self.group.gather(student), self.group.gather(target)
        return {
            "cross_entropy": cross_entropy(logits, labels),
            "similarity": self.weight * similarity_loss(student, target),
        }
