"""Supervised contrastive pre-training (Khosla et al.): the first of SupContrast's two stages."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.losses import at_least_float32, supcon_loss
from cds_lib.losses.contrastive import apart
from cds_lib.methods.method import Method
from cds_lib.models import pooled, stage_taps


class SupervisedContrastive(Method):
    """Pre-training with loss = supcon(normalised MLP of the pooled vector, two views); labels define the positives.

    The MLP is linear, ReLU, linear (D -> D -> `dimensions`). It is dropped afterwards, and a `LinearClassifier` is
    trained on the network in a run of its own. Both views pass through the network as one batch. Head, 128 dimensions
    and temperature 0.1 are those of HobbitLong/SupContrast.

    Args:
        base_temperature: if given, the loss is multiplied by temperature / base_temperature (docs/deviations.md).
            SupContrast's is 0.07, whatever its temperature is.
    """

    views = 2
    classifies = False

    def __init__(
        self,
        backbone: nn.Module,
        temperature: float = 0.1,
        dimensions: int = 128,
        base_temperature: float | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.temperature, self.base_temperature = temperature, base_temperature
        width = stage_taps(backbone).pooled
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, dimensions))

    def losses(self, view1: Tensor, view2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the term "contrastive" for two views (B, 3, S, S) and labels (B,)."""
        features = self.backbone.forward_features(torch.cat([view1, view2]))
        z = F.normalize(at_least_float32(self.head(pooled(self.backbone, features))), dim=-1)
        z = self.group.gather(z.unflatten(0, (2, len(labels))), 1)
        loss = supcon_loss(z, apart(self.group.gather(labels)), self.temperature)
        return {"contrastive": loss * self.temperature / self.base_temperature if self.base_temperature else loss}
