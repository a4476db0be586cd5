"""Contrastive representation distillation (Tian, Krishnan and Isola)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import at_least_float32, contrast, cross_entropy, nce_loss, updated_memory
from cds_lib.methods.teacher import WithTeacher
from cds_lib.models import stage_taps

_BANKS = ("memory_student", "memory_teacher")


class ContrastiveRepresentationDistillation(WithTeacher):
    """CRD: loss = CE + weight * (nce_loss of the student's embeddings + nce_loss of the teacher's embeddings).

    One linear layer per network, both trained, embeds the pooled vectors, which are then L2-normalised. Two banks hold
    a running embedding of every training image. An anchor of one network is contrasted with rows of the other network's
    bank: its own image (the positive) and images of other classes. Bank rows are read before they move to the new
    embeddings. The partition constant of each side is N times the mean score in the first batch and stays fixed.

    All constants are those of HobbitLong/RepDistiller for CIFAR-100. RepDistiller draws the negatives of an image
    without repetition if the other classes have enough images; here the draws are independent, as the loss assumes of
    its noise.

    Call `prepare` with the labels of the training set once before training, also before resuming. Without training it
    is not needed: a loaded state dict brings its banks along.

    Args:
        negatives: negatives per image, at most as many as there are images outside the largest class.
    """

    needs_index = True
    compiles = False  # a captured graph keeps the banks' addresses, and every step makes new banks
    partition: Tensor
    memory_student: Tensor
    memory_teacher: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        teacher: nn.Module,
        weight: float = 0.8,
        dimensions: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ):
        super().__init__()
        self.backbone = backbone
        self.weight, self.negatives, self.temperature, self.momentum = weight, negatives, temperature, momentum
        self.hold_teacher(teacher)
        self.embed_student = nn.Linear(stage_taps(backbone).pooled, dimensions)
        self.embed_teacher = nn.Linear(stage_taps(self.teacher.backbone).pooled, dimensions)
        self.register_buffer("partition", torch.zeros(2))  # for the student's and the teacher's anchors; 0: not set
        self.has_partition = False  # on the CPU, to avoid reading the device; a resumed run keeps `partition`
        self.register_load_state_dict_pre_hook(_take_banks)

    def prepare(self, labels: Tensor) -> None:
        """Set up the banks and the sampling of negatives for a training set.

        Args:
            labels: (N,) integers, in the order that `index` refers to.

        Raises:
            UsageError: if all images are of one class.
        """
        classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
        if len(sizes) < 2:
            raise UsageError("CRD needs negatives: train it on at least two classes.")
        device, dimensions = self.partition.device, self.embed_student.out_features
        self.draws = min(self.negatives, len(labels) - int(sizes.max()))
        bound = (3 / dimensions) ** 0.5  # as released
        for name in _BANKS:
            self.register_buffer(name, torch.empty(len(labels), dimensions, device=device).uniform_(-bound, bound))
        # Images sorted by class: the class of an image takes `class_size` places from `class_start` on.
        sampling = {
            "by_class": classes.argsort(stable=True),
            "class_start": (sizes.cumsum(0) - sizes)[classes],
            "class_size": sizes[classes],
        }
        for name, values in sampling.items():
            self.register_buffer(name, values.to(device), persistent=False)

    def sample_negatives(self, index: Tensor) -> Tensor:
        """Draw images (B, K) of other classes than those of `index` (B,), independently and uniformly."""
        start, size = self.class_start[index, None], self.class_size[index, None]
        # Draw a rank among the images of other classes, then skip the own class. Double precision keeps it uniform.
        uniform = torch.rand(len(index), self.draws, device=index.device, dtype=torch.float64)
        rank = uniform.mul_(len(self.by_class) - size).long()
        rank.add_((rank >= start) * size)
        return self.by_class.index_select(0, rank.flatten()).view_as(rank)

    def losses(self, view: Tensor, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the terms "cross_entropy" and "contrastive" for view (B, 3, S, S) and labels (B,).

        `index` (B,) holds the training set places of the whole batch: all processes draw the same negatives for it.
        """
        student, logits, target = self.pooled_of_both(view)
        candidates = torch.cat([index[:, None], self.sample_negatives(index)], dim=1)
        term = self.contrastive(student, target, index, self.group.own(candidates))
        return {"cross_entropy": cross_entropy(logits, labels), "contrastive": self.weight * term}

    def contrastive(self, student: Tensor, target: Tensor, index: Tensor, candidates: Tensor) -> Tensor:
        """Return the loss for pooled vectors (B, D) and (B, D') and bank rows (B, 1 + K), then update the bank rows
        `index`, which are those of the whole batch."""
        z_student = F.normalize(at_least_float32(self.embed_student(student)), dim=1)
        z_teacher = F.normalize(at_least_float32(self.embed_teacher(target)), dim=1)
        logits = [
            contrast(z_student, self.memory_teacher, candidates, self.temperature),
            contrast(z_teacher, self.memory_student, candidates, self.temperature),
        ]
        num_images = len(self.memory_student)
        with torch.no_grad():
            if not self.has_partition:
                means = torch.stack([self.group.gather(side.exp()).mean() for side in logits]) * num_images
                self.partition = torch.where(self.partition > 0, self.partition, means)
                self.has_partition = True
            z_student, z_teacher = self.group.gather(z_student), self.group.gather(z_teacher)
            self.memory_student = updated_memory(self.memory_student, index, z_student, self.momentum)
            self.memory_teacher = updated_memory(self.memory_teacher, index, z_teacher, self.momentum)
        log_partition = self.partition.log()
        one, other = (nce_loss(side, log_z, num_images) for side, log_z in zip(logits, log_partition, strict=True))
        return one + other


def _take_banks(method: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded, register its banks if `prepare` was not called."""
    for name in _BANKS:
        if not hasattr(method, name) and prefix + name in state:
            method.register_buffer(name, torch.empty_like(state[prefix + name], device=method.partition.device))
