"""BYOL (Grill et al.): pre-training without labels and without negatives."""

import copy
import math

import torch
from torch import Tensor, nn

from cds_lib.losses import regression_loss
from cds_lib.methods.method import Method
from cds_lib.models import pooled, stage_taps


class BYOL(Method):
    """BYOL: the online network predicts the projection of the other view by a slowly moving average of itself.

        loss = regression(q(z1), z2') + regression(q(z2), z1')

    z is the projection of the pooled vector by an MLP, q is another MLP, and ' marks the target, an average of the
    online network and its projection: target <- m target + (1 - m) online after every step. m rises from `momentum` to
    1 on a cosine over `epochs`. No gradient flows into the target. An MLP is linear, batch norm, ReLU, linear.

    Sizes and momentum (0.99 for presets up to 300 epochs, 0.996 for 1000) are those of google-deepmind's configuration.
    Two choices are ours, because that code was not at hand: the views pass through the networks one after the other,
    and the target's batch norms use batch statistics, as the online ones do.

    Call `prepare` with the labels of the training set once before training; their number defines an epoch.

    Args:
        epochs: number of epochs of the training.
        hidden, dimensions: hidden and output size of the MLPs; smaller in miniatures.
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
        """Record the size of the training set, given its labels (N,)."""
        self.num_images = len(labels)

    def losses(self, view1: Tensor, view2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the term "regression" for two views (B, 3, S, S); the values of labels (B,) are not used."""
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
        """Update the target. This belongs after an optimizer step, but the loop has no hook there, so it is done before
        the next step. At the first step the target equals the online network, and the update changes nothing."""
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
