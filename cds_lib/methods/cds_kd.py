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
    """Distilled CDS: the CDS loss, a distance between student and teacher embeddings, and soft cross-entropy.

        loss = CE + weight * sum over taps of supcon
             + feature_weight * sum over taps of || teacher's z - adapter(student's z) ||
             + soft_cross_entropy(student's logits, teacher's logits; temperature)

    Both cross-entropies are those of view 1. z are the L2-normalised embeddings of both views, one row per image (2B
    rows). If the embeddings of the two networks differ in length, each tap has an adapter, one linear layer with bias,
    whose output is not normalised again. Source: `CIFAR/distill.py` of the released code. For ImageNet the release sets
    both weights to 0.5 and the temperature to 1.

    Args:
        teacher: a trained `ContrastiveDeepSupervision` with its heads and the same taps.
        temperature: temperature of the soft cross-entropy; the contrastive loss keeps that of CDS.
        teacher_mode: "eval", or "train" as released. With "train" the teacher normalises with batch statistics, and its
            running statistics drift.
        feature_loss: "frobenius" (as released), the root of the sum of squares over the whole matrix; or "mse", the
            mean of the squares.

    Raises:
        UsageError: if the teacher is of another kind or has other taps, or a choice is unknown.
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
        """Return the terms of CDS, "feature_<tap>", ... and "soft_cross_entropy"; arguments as in CDS."""
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
