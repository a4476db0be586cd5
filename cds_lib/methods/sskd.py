"""Knowledge distillation meets self-supervision: SSKD (Xu et al.), its teacher's head and its student."""

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
    """A trained network, frozen and in eval mode, and a head that is trained to match rotated copies to their source.

        loss = cross-entropy over the upright images of the batch, of the cosine similarities of every rotated copy

    The head is linear, ReLU, linear, as wide as the pooled vector. This is a run of its own, whose result is what the
    student `SSKD` takes as its teacher. Recipe of `student.py` of xuguodong03/SSKD: 60 epochs, learning rate 0.05,
    a tenth of it after epochs 30 and 45, momentum 0.9, weight decay 5e-4, batch 64.

    Args:
        backbone: the same network as the teacher's; it is given the teacher's weights.
        teacher: the trained network, or a method around it.

    Raises:
        UsageError: the teacher's network is another one.
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
        """view (B, 3, S, S), labels (B,) not used -> {"self_supervision"}."""
        with torch.no_grad():
            features = pooled(self.backbone, self.backbone.forward_features(rotated_copies(view)))
        embeddings = _gathered(self.group, self.head(features))
        sources = _sources(len(embeddings) // 4, view.device)
        return {"self_supervision": cross_entropy(rotation_similarities(embeddings), sources)}


class SSKD(WithTeacher):
    """Distils predictions on upright and on rotated images, and the similarities of rotated copies to upright images.

        loss = cross_entropy_weight * CE + kd_weight * KL                     (upright images)
             + rotated_weight * KL on the rotated images + similarity_weight * KL of their rows of similarities

    Each KL has its temperature and the factor T^2; of the last two, the rows that the teacher gets wrong count only as
    far as `*_keep_wrong` says (see `ranked_kd_loss`). The student's head is trained with it. All four rotations go
    through the networks together. Constants of `student.py` of xuguodong03/SSKD, which crops the rotated copies of an
    image each in its own way; here they are copies of one augmented view.

    Args:
        teacher: an `SSKDTeacher` whose head has been trained.

    Raises:
        UsageError: another kind of teacher.
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
        """view (B, 3, S, S), labels (B,) -> {"cross_entropy", "kd", "kd_rotated", "kd_similarity"}."""
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
        """The losses, from logits (4 B, C) and embeddings (4 B, D) of the interleaved rotations and labels (B,)."""
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
    """images (B, 3, S, S) -> (4 B, 3, S, S): each image upright, then turned by 90, 180 and 270 degrees."""
    return torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(4)], dim=1).flatten(0, 1)


def _gathered(group: SingleProcess, rows: Tensor) -> Tensor:
    """(4 B, ...) of the interleaved rotations of a process's images -> of those of the whole batch."""
    return group.gather(rows.unflatten(0, (-1, 4))).flatten(0, 1)


def _sources(batch: int, device: torch.device) -> Tensor:
    return torch.arange(batch, device=device).repeat_interleave(3)


def _head(backbone: nn.Module) -> nn.Sequential:
    width = stage_taps(backbone).pooled
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width))


def _logits_and_embeddings(method: Method, images: Tensor) -> tuple[Tensor, Tensor]:
    vector, logits = pooled_and_logits(method.backbone, method.backbone.forward_features(images))
    return logits, method.head(vector)
