"""Online knowledge distillation by an on-the-fly native ensemble: ONE (Lan, Zhu and Gong)."""

import copy

import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import at_least_float32, cross_entropy, kd_loss
from cds_lib.methods.method import Method
from cds_lib.models import forward_stages, pooled_and_logits, reinitialise, stage_taps
from cds_lib.models.backbones import stage_module


class OnlineDistillation(Method):
    """ONE: branches that share all stages but the last, and learn from their own gated ensemble.

        loss = sum of the branches' CE + CE of the ensemble + w * sum over branches of T^2 KL(ensemble || branch)

    Branch 1 is the backbone itself. Every other branch has its own last stage (with a final norm, if the network has
    one) and classifier. The ensemble's logits are those of the branches, weighted per image by a gate on the shared
    features: average pooling, linear layer, batch norm, ReLU, softmax. In the KL the ensemble is a constant. w is
    exp(-5 (1 - e / rampup_epochs)^2) in the 0-based epoch e < rampup_epochs, then 1.

    Three branches, T = 3 and 80 of 300 epochs are those of `cifar_one.py` of Lan1991Xu/ONE_NeurIPS2018. That code adds
    1e-7 to the target probabilities, which is left out here.

    Call `prepare` with the labels of the training set once before training; their number defines an epoch.

    Args:
        rampup_epochs: epochs until w reaches 1; 0 for no ramp-up.

    Raises:
        UsageError: if the backbone is not a timm ResNet or ResNetV2, or there are fewer than two branches.
    """

    images_seen: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        branches: int = 3,
        temperature: float = 3.0,
        rampup_epochs: float = 80.0,
    ):
        super().__init__()
        if not isinstance(backbone, ResNet | ResNetV2):
            raise UsageError(f"Online distillation needs a timm ResNet or ResNetV2, not {type(backbone).__name__}.")
        if branches < 2:
            raise UsageError(f"Online distillation needs at least two branches, not {branches}.")
        self.backbone = backbone
        self.temperature, self.rampup_epochs = temperature, rampup_epochs
        taps = stage_taps(backbone)
        self.shared = taps.indices[-2:-1]
        last_stage = stage_module(backbone, taps.indices[-1])
        norm = backbone.norm if isinstance(backbone, ResNetV2) else nn.Identity()
        self.stages = nn.ModuleList(copy.deepcopy(nn.Sequential(last_stage, norm)) for _ in range(branches - 1))
        reinitialise(self.stages)
        self.classifiers = nn.ModuleList(nn.Linear(taps.pooled, num_classes) for _ in self.stages)
        self.gate = nn.Sequential(
            nn.Linear(taps.channels[-2], branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(dim=1)
        )
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))

    def prepare(self, labels: Tensor) -> None:
        """Record the size of the training set, given its labels (N,)."""
        self.num_images = len(labels)

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return "cross_entropy", "cross_entropy_2", ..., "ensemble" and "kd" for view (B, 3, S, S) and labels (B,)."""
        (shared,), features = forward_stages(self.backbone, view, self.shared)
        outputs = [pooled_and_logits(self.backbone, features)[1]]
        for stage, classifier in zip(self.stages, self.classifiers, strict=True):
            outputs.append(classifier(F.adaptive_avg_pool2d(stage(shared), 1).flatten(1)))
        logits = at_least_float32(torch.stack(outputs))  # (branches, B, num_classes)
        weights = at_least_float32(self.gate(F.adaptive_avg_pool2d(shared, 1).flatten(1)))  # (B, branches)
        ensemble = (weights.T[..., None] * logits).sum(0)
        kd = sum(kd_loss(one, ensemble.detach(), self.temperature) for one in logits)
        return {
            "cross_entropy": cross_entropy(logits[0], labels),
            **{f"cross_entropy_{branch}": cross_entropy(one, labels) for branch, one in enumerate(logits[1:], 2)},
            "ensemble": cross_entropy(ensemble, labels),
            "kd": self._rampup(self.group.total(len(view))) * kd,
        }

    def _rampup(self, batch: int) -> Tensor:
        epoch = self.images_seen // self.num_images  # counted on the device and kept in the checkpoint
        self.images_seen += batch
        left = (1 - epoch / self.rampup_epochs).clamp(min=0) if self.rampup_epochs else torch.zeros_like(epoch)
        return (-5 * left.square()).exp()
