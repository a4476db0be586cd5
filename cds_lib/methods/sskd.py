"""SSKD, knowledge distillation meets self-supervision (Xu et al.): the teacher's head and the student."""

from typing import Self

import torch
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import cross_entropy, kd_loss, ranked_kd_loss, rotation_similarities
from cds_lib.methods.method import Method
from cds_lib.methods.processes import SingleProcess
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import pooled, pooled_and_logits, stage_taps


class SSKDTeacher(Method):
    """A trained network, frozen and in eval mode, with a head that learns to match rotated copies to their source.

        loss = cross-entropy of every rotated copy's cosine similarities to the upright images of the batch

    The head is linear, ReLU, linear, as wide as the pooled vector. Its training is a run of its own, whose result is
    the teacher of the student `SSKD`. The recipe is that of `student.py` of xuguodong03/SSKD: 60 epochs, learning rate
    0.05, divided by 10 after epochs 30 and 45, momentum 0.9, weight decay 5e-4, batch size 64.

    Args:
        backbone: the same network as the teacher's; it receives the teacher's weights.
        teacher: the trained network, or a method around it.

    Raises:
        UsageError: if the teacher's network is another one.
    """

    def __init__(self, backbone: nn.Module, teacher: nn.Module):
        super().__init__()
        try:
            backbone.load_state_dict((teacher.backbone if isinstance(teacher, Method) else teacher).state_dict())
        except RuntimeError as error:
            raise UsageError(
                "The head of SSKD's teacher is trained on the teacher's own network: choose it."
            ) from error
        self.backbone = backbone.requires_grad_(False).eval()
        self.head = _head(backbone)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.eval()
        return self

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the term "self_supervision" for view (B, 3, S, S); labels (B,) are not used."""
        with torch.no_grad():
            features = pooled(self.backbone, self.backbone.forward_features(rotated_copies(view)))
        embeddings = _gathered(self.group, self.head(features))
        sources = _sources(len(embeddings) // 4, view.device)
        return {"self_supervision": cross_entropy(rotation_similarities(embeddings), sources)}


class SSKD(WithTeacher):
    """SSKD: distil predictions on upright and rotated images, and similarities of rotated copies to upright images.

        loss = cross_entropy_weight * CE + kd_weight * KL                     (upright images)
             + rotated_weight * KL on the rotated images + similarity_weight * KL of their rows of similarities

    Each KL has a temperature T and the factor T^2. `*_keep_wrong` limits how many of the rows that the teacher gets
    wrong count in the last two terms (see `ranked_kd_loss`). The student's head is trained too. All four rotations pass
    through the networks as one batch. Constants are those of `student.py` of xuguodong03/SSKD, which crops every
    rotated copy in its own way; here they are copies of one augmented view.

    Args:
        teacher: an `SSKDTeacher` whose head has been trained.

    Raises:
        UsageError: if the teacher is of another kind.
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: nn.Module,
        cross_entropy_weight: float = 0.1,
        kd_weight: float = 0.9,
        rotated_weight: float = 2.7,
        similarity_weight: float = 10.0,
        temperature: float = 4.0,
        similarity_temperature: float = 0.5,
        rotated_keep_wrong: float = 1.0,
        similarity_keep_wrong: float = 0.75,
    ):
        super().__init__()
        if not isinstance(teacher, SSKDTeacher):
            raise UsageError("SSKD needs a teacher with a trained self-supervision head: an SSKDTeacher.")
        self.backbone = backbone
        self.cross_entropy_weight, self.kd_weight = cross_entropy_weight, kd_weight
        self.rotated_weight, self.similarity_weight = rotated_weight, similarity_weight
        self.temperature, self.similarity_temperature = temperature, similarity_temperature
        self.rotated_keep_wrong, self.similarity_keep_wrong = rotated_keep_wrong, similarity_keep_wrong
        self.head = _head(backbone)
        self.hold_teacher(teacher)

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return "cross_entropy", "kd", "kd_rotated" and "kd_similarity" for view (B, 3, S, S) and labels (B,)."""
        images = rotated_copies(view)
        student = _logits_and_embeddings(self, images)
        with torch.no_grad():
            target = _logits_and_embeddings(self.teacher, images)
        logits, embeddings, target_logits, target_embeddings = (
            _gathered(self.group, rows) for rows in (*student, *target)
        )
        return self.terms(logits, embeddings, target_logits, target_embeddings, self.group.gather(labels))

    def terms(
        self, logits: Tensor, embeddings: Tensor, target_logits: Tensor, target_embeddings: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses from logits (4 B, C) and embeddings (4 B, D) of interleaved rotations, and labels (B,)."""
        logits, target_logits = logits.unflatten(0, (-1, 4)), target_logits.unflatten(0, (-1, 4))
        upright, rotated = logits[:, 0], logits[:, 1:].flatten(0, 1)
        target_upright, target_rotated = target_logits[:, 0], target_logits[:, 1:].flatten(0, 1)
        kd_rotated = ranked_kd_loss(
            rotated,
            target_rotated,
            labels.repeat_interleave(3),
            temperature=self.temperature,
            keep_wrong=self.rotated_keep_wrong,
        )
        kd_similarity = ranked_kd_loss(
            rotation_similarities(embeddings),
            rotation_similarities(target_embeddings),
            _sources(len(labels), labels.device),
            temperature=self.similarity_temperature,
            keep_wrong=self.similarity_keep_wrong,
        )
        return {
            "cross_entropy": self.cross_entropy_weight * cross_entropy(upright, labels),
            "kd": self.kd_weight * kd_loss(upright, target_upright, self.temperature),
            "kd_rotated": self.rotated_weight * kd_rotated,
            "kd_similarity": self.similarity_weight * kd_similarity,
        }


def rotated_copies(images: Tensor) -> Tensor:
    """Return (4 B, 3, S, S) for images (B, 3, S, S): each upright, then turned by 90, 180 and 270 degrees."""
    return torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(4)], dim=1).flatten(0, 1)


def _gathered(group: SingleProcess, rows: Tensor) -> Tensor:
    """Gather the interleaved rotations (4 B, ...) of a process's images to those of the whole batch."""
    return group.gather(rows.unflatten(0, (-1, 4))).flatten(0, 1)


def _sources(batch: int, device: torch.device) -> Tensor:
    return torch.arange(batch, device=device).repeat_interleave(3)


def _head(backbone: nn.Module) -> nn.Sequential:
    width = stage_taps(backbone).pooled
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width))


def _logits_and_embeddings(method: Method, images: Tensor) -> tuple[Tensor, Tensor]:
    vector, logits = pooled_and_logits(method.backbone, method.backbone.forward_features(images))
    return logits, method.head(vector)
