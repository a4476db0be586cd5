"""Deeply-supervised nets: classifiers on the intermediate stages (Lee et al., with cross-entropy companions)."""

from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import cross_entropy, kd_loss
from cds_lib.methods.method import Method
from cds_lib.models import forward_stages, initialise, pooled_and_logits, projection_heads, stage_taps


class DeeplySupervisedNet(Method):
    """Deeply-supervised nets: cross-entropy plus `weight` times that of a classifier after every earlier stage.

    The classifier is the separable-convolution head of CDS followed by one linear layer. The paper does not say which
    variant its DSN rows use. This is the author's own deep classifier, so DSN and CDS differ in the loss and the second
    view, not in the capacity of their heads.

    Args:
        weight: weight of every classifier except the last.
        views: 1, or 2 to process as many images as CDS. With 2, both views pass through the network as one batch, and
            every cross-entropy is the mean over both.
        kl_weight: weight of the KL divergence from the last classifier, which gets no gradient from it, to every other
            classifier (the paper's equation 3). 0, as in deeply-supervised nets, leaves the term out.

    Raises:
        UsageError: if `views` is not 1 or 2.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, weight: float = 1.0, views: int = 1, kl_weight: float = 0.0
    ):
        super().__init__()
        if views not in (1, 2):
            raise UsageError(f"views must be 1 or 2, not {views}.")
        self.backbone = backbone
        self.weight, self.views, self.kl_weight = weight, views, kl_weight
        taps = stage_taps(backbone)
        self.indices = taps.indices
        self.heads = projection_heads(taps.channels[:-1], taps.pooled)
        self.classifiers = nn.ModuleList(nn.Linear(taps.pooled, num_classes) for _ in self.heads)
        initialise(self.heads)  # a second time, because committed runs started from these weights

    def losses(self, *batch: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms "cross_entropy", "cross_entropy_1", ... (one per stage before the last) and, with
        `kl_weight`, as many "kl_1", ... It takes as many views (B, 3, S, S) as `views` says, and labels (B,)."""
        images, labels = self._one_batch(*batch, labels=labels)
        maps, features = forward_stages(self.backbone, images, self.indices)
        _, logits = pooled_and_logits(self.backbone, features)
        losses = {"cross_entropy": cross_entropy(logits, labels)}
        for stage, (head, classifier) in enumerate(zip(self.heads, self.classifiers, strict=True)):
            inner = classifier(head(maps[stage]))
            losses[f"cross_entropy_{stage + 1}"] = self.weight * cross_entropy(inner, labels)
            if self.kl_weight:
                losses[f"kl_{stage + 1}"] = self.kl_weight * kd_loss(inner, logits.detach(), temperature=1.0)
        return losses
