"""Knowledge distillation (Hinton, Vinyals and Dean)."""

import torch
from torch import Tensor, nn

from cds_lib.losses import cross_entropy, kd_loss
from cds_lib.methods.teacher import WithTeacher


class KnowledgeDistillation(WithTeacher):
    """Knowledge distillation: loss = cross_entropy_weight * CE + weight * T^2 KL(teacher || student), both on view 1.

    Weights and temperature are those of HobbitLong/RepDistiller for CIFAR-100 (gamma 0.1, alpha 0.9, T 4).
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: nn.Module,
        cross_entropy_weight: float = 0.1,
        weight: float = 0.9,
        temperature: float = 4.0,
    ):
        super().__init__()
        self.backbone = backbone
        self.cross_entropy_weight, self.weight, self.temperature = cross_entropy_weight, weight, temperature
        self.hold_teacher(teacher)

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy" and "kd" for view (B, 3, S, S) and labels (B,)."""
        logits = self.backbone(view)
        with torch.no_grad():
            targets = self.teacher.backbone(view)
        return {
            "cross_entropy": self.cross_entropy_weight * cross_entropy(logits, labels),
            "kd": self.weight * kd_loss(logits, targets, self.temperature),
        }
