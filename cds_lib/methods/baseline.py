"""Plain training with cross-entropy."""

from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import cross_entropy
from cds_lib.methods.method import Method


class Baseline(Method):
    """Baseline: cross-entropy of the backbone's logits.

    Args:
        views: 1, or 2 for a baseline that costs what CDS costs. With 2, both views pass through the network as one
            batch, and the cross-entropy is the mean over both.

    Raises:
        UsageError: if `views` is not 1 or 2.
    """

    def __init__(self, backbone: nn.Module, views: int = 1):
        super().__init__()
        if views not in (1, 2):
            raise UsageError(f"views must be 1 or 2, not {views}.")
        self.backbone = backbone
        self.views = views

    def losses(self, *batch: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the term "cross_entropy" for as many views (B, 3, S, S) as `views` says, and labels (B,)."""
        images, labels = self._one_batch(*batch, labels=labels)
        return {"cross_entropy": cross_entropy(self.backbone(images), labels)}
