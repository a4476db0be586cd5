"""Correlation congruence for knowledge distillation (Peng et al.)."""

from torch import Tensor, nn

from cds_lib.losses import correlation_loss, cross_entropy
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import stage_taps


class CorrelationCongruence(WithTeacher):
    """Correlation congruence: loss = CE + weight * correlation_loss of linear embeddings of the pooled vectors.

    Both embeddings are trained. 128 dimensions and weight 0.02 are those of HobbitLong/RepDistiller for CIFAR-100.
    """

    def __init__(self, backbone: nn.Module, teacher: nn.Module, weight: float = 0.02, dimensions: int = 128):
        super().__init__()
        self.backbone = backbone
        self.weight = weight
        self.hold_teacher(teacher)
        self.embed_student = nn.Linear(stage_taps(backbone).pooled, dimensions)
        self.embed_teacher = nn.Linear(stage_taps(self.teacher.backbone).pooled, dimensions)

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy" and "correlation" for view (B, 3, S, S) and labels (B,)."""
        student, logits, target = self.pooled_of_both(view)
        embeddings = self.embed_student(student), self.embed_teacher(target)
        term = correlation_loss(*map(self.group.gather, embeddings))
        return {"cross_entropy": cross_entropy(logits, labels), "correlation": self.weight * term}
