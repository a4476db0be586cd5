"""BYOL (Grill et al.): pre-training without labels and without negatives."""

import copy
import math

import torch
from torch import Tensor, nn

from cds_lib.losses import regression_loss
from cds_lib.methods.method import Method
from cds_lib.models import pooled, stage_taps


class BYOL(Method):
    """The online network predicts what a slowly moving average of itself makes of the other view.

        loss = regression(q(z1), z2') + regression(q(z2), z1')

    z is a projection (MLP) of the pooled vector, q another MLP, and ' the target: an average of the online network and
    its projection, target <- m target + (1 - m) online after every step, with m rising from `momentum` to 1 on a cosine
    over `epochs`. No gradient flows into the target. An MLP is linear, batch norm, ReLU, linear.

    Sizes and momentum (0.99 for presets up to 300 epochs, 0.996 for 1000) are those of google-deepmind's configuration.
    Ours, as that code was not at hand: the views go through the networks one after the other, the target's batch norms
    use batch statistics, as the online ones do.

    Call `prepare` once with the labels of the training set, before training: their number tells when an epoch ends.

    Args:
        epochs: of the training.
        hidden, dimensions: of the MLPs; smaller in miniatures.
    """

    views = 2
    classifies = False
    images_seen: Tensor

    def __init__(
        self, backbone: nn.Module, epochs: int, momentum: float = 0.996, hidden: int = 4096, dimensions: int = 256
    ):
        super().__init__()
        self.backbone = backbone
        self.epochs, self.momentum = epochs, momentum
        self.projector = _mlp(stage_taps(backbone).pooled, hidden, dimensions)
        self.predictor = _mlp(dimensions, hidden, dimensions)
        self.target = nn.ModuleList([copy.deepcopy(backbone), copy.deepcopy(self.projector)]).requires_grad_(False)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))

    def prepare(self, labels: Tensor) -> None:
        """Learn the size of the training set from its labels (N,)."""
        self.num_images = len(labels)

    def losses(self, view1: Tensor, view2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Two views (B, 3, S, S), labels (B,) not used -> {"regression"}."""
        self._move_target()
        self.images_seen += self.group.total(len(labels))
        predictions = [self.predictor(_project(self.backbone, self.projector, view)) for view in (view1, view2)]
        with torch.no_grad():
            backbone, projector = self.target
            targets = [_project(backbone, projector, view) for view in (view2, view1)]
        one, other = map(regression_loss, predictions, targets)
        return {"regression": one + other}

    @torch.no_grad()
    def _move_target(self) -> None:
        """Belongs after an optimizer step, and is done before the next one, as the loop has no hook for it. The first
        time the target equals the online network, and moving it changes nothing."""
        done = self.images_seen / (self.epochs * self.num_images)
        momentum = 1 - (1 - self.momentum) * (torch.cos(math.pi * done) + 1) / 2
        online: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        target: list[Tensor] = [*self.target.parameters()]
        torch._foreach_mul_(target, momentum)
        torch._foreach_add_(target, list(torch._foreach_mul(online, 1 - momentum)))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


def _project(backbone: nn.Module, projector: nn.Module, view: Tensor) -> Tensor:
    return projector(pooled(backbone, backbone.forward_features(view)))
