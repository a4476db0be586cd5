"""Contrastive deep supervision with a teacher: distilled CDS, as released."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.cds import ContrastiveDeepSupervision
from cds_lib.errors import UsageError
from cds_lib.losses import at_least_float32, soft_cross_entropy
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import stage_taps


class DistilledCDS(WithTeacher, ContrastiveDeepSupervision):
    """The CDS loss, the distance between the student's and the teacher's embeddings, and soft cross-entropy.

        loss = CE + weight * sum over taps of supcon
             + feature_weight * sum over taps of || teacher's z - adapter(student's z) ||
             + soft_cross_entropy(student's logits, teacher's logits; temperature)

    Both cross-entropies are those of view 1, z are the L2-normalised embeddings of both views, one row an image (2B
    rows). The adapter is one linear layer with bias a tap, only where the networks' embeddings differ in length; what
    it returns is not normalised again. Source: `CIFAR/distill.py` of the released code; for ImageNet the release has
    both weights at 0.5 and temperature 1.

    Args:
        teacher: a trained `ContrastiveDeepSupervision`, heads included, with the same taps.
        temperature: of the soft cross-entropy (that of the contrastive loss stays as in CDS).
        teacher_mode: "eval", or "train" as released: then the teacher normalises by the statistics of the batch, and
            its running statistics drift.
        feature_loss: "frobenius", the root of the sum of squares over the whole matrix, as released; or "mse", the mean
            of the squares.

    Raises:
        UsageError: a teacher of another kind or with other taps, or an unknown choice.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        teacher: nn.Module,
        taps: Sequence[int] | None = None,
        weight: float = 0.1,
        feature_weight: float = 0.1,
        temperature: float = 3.0,
        teacher_mode: str = "eval",
        feature_loss: str = "frobenius",
    ):
        super().__init__(backbone, num_classes, taps, weight)
        if not isinstance(teacher, ContrastiveDeepSupervision):
            raise UsageError("Distilled CDS needs a teacher with CDS heads: a ContrastiveDeepSupervision.")
        if teacher.taps != self.taps:
            raise UsageError(
                f"The teacher's taps {list(teacher.taps)} and the student's {list(self.taps)} must be equal."
            )
        if teacher_mode not in ("eval", "train"):
            raise UsageError(f"teacher_mode must be eval or train, not {teacher_mode!r}.")
        if feature_loss not in ("frobenius", "mse"):
            raise UsageError(f"feature_loss must be frobenius or mse, not {feature_loss!r}.")
        self.feature_weight, self.kd_temperature = feature_weight, temperature
        self.teacher_mode, self.feature_loss = teacher_mode, feature_loss
        width, teacher_width = stage_taps(self.backbone).pooled, stage_taps(teacher.backbone).pooled
        self.adapters = nn.ModuleList(
            nn.Identity() if width == teacher_width else nn.Linear(width, teacher_width) for _ in self.taps
        ).to(next(self.backbone.parameters()).device)
        self.hold_teacher(teacher)

    def losses(  # type: ignore[override]  # without the targets of mixed images
        self, view1: Tensor, view2: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """As `ContrastiveDeepSupervision.losses`, with "feature_<tap>", ... and "soft_cross_entropy" added."""
        images = torch.cat([view1, view2])
        z, logits = self.embed(images)
        with torch.no_grad():
            target_z, target_logits = self.teacher.embed(images)
        losses = self.terms(z, logits, labels)
        for tap, adapter, student, target in zip(self.taps, self.adapters, z, target_z, strict=True):
            losses[f"feature_{tap}"] = self.feature_weight * self._distance(at_least_float32(adapter(student)), target)
        view = slice(len(view1))
        losses["soft_cross_entropy"] = soft_cross_entropy(logits[view], target_logits[view], self.kd_temperature)
        return losses

    def _distance(self, student: Tensor, target: Tensor) -> Tensor:
        if self.feature_loss == "mse":
            return F.mse_loss(student, target)
        difference = target - student
        if self.gathers:
            difference = self.group.gather(difference.unflatten(0, (2, -1)), 1)
        return torch.linalg.vector_norm(difference)
