"""Relational knowledge distillation (Park et al.)."""

from torch import Tensor, nn

from cds_lib.losses import angle_loss, cross_entropy, distance_loss
from cds_lib.methods.teacher import WithTeacher


class RelationalDistillation(WithTeacher):
    """RKD: loss = CE + distance_weight * distance_loss + angle_weight * angle_loss of the pooled vectors.

    Weights 25 and 50 are those of HobbitLong/RepDistiller for CIFAR-100 (whose beta for their sum is 1).
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: nn.Module,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
    ):
        super().__init__()
        self.backbone = backbone
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        self.hold_teacher(teacher)

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy", "distance" and "angle" for view (B, 3, S, S) and labels (B,)."""
        student, logits, target = self.pooled_of_both(view)
        student, target = self.group.gather(student), self.group.gather(target)
        return {
            "cross_entropy": cross_entropy(logits, labels),
            "distance": self.distance_weight * distance_loss(student, target),
            "angle": self.angle_weight * angle_loss(student, target),
        }
