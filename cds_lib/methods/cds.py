"""Contrastive deep supervision (Zhang et al., ECCV 2022): this file and `losses/contrastive.py` are the method."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import supcon_loss
from cds_lib.methods.whole_batch import WholeBatch
from cds_lib.models import forward_stages, initialise, pooled_and_logits, projection_heads, stage_taps


class ContrastiveDeepSupervision(nn.Module):
    """Cross-entropy at the end plus a contrastive loss on the embeddings of the stages.

        loss = CE(logits of view 1, labels) + weight * sum over taps of supcon(embeddings of both views)

    Both views go through the network together (batch norm sees 2B images). A tap is a stage, counted from 1. The last
    stage's embedding is the pooled vector the classifier reads; an earlier stage's is the output of a separable-
    convolution head. All embeddings have the same length and are L2-normalised; there is no projection MLP.
    Source: `CIFAR/train.py`, `CIFAR/resnet.py` of the released code, which taps all four stages (the paper's formula
    sums over the stages before the last) and uses weight 0.1 and temperature 0.07.

    Args:
        backbone: a network of `create_backbone`, any timm network with stage features, or a timm model name.
        num_classes: of the classifier, if `backbone` is a name.
        taps: stages to supervise, increasing, 1 to the number of stages.
        weight: lambda of every tap.
        temperature: of the contrastive loss.
        use_labels: positives are all images of the class (SupCon); if False, the other view only (SimCLR).

    Raises:
        UsageError: a tap the network does not have, or a name timm does not know.

    Example:
        model = ContrastiveDeepSupervision("resnet18", num_classes=10)
        loss = sum(model(view1, view2, labels).values())   # in training
        logits = model.eval()(images)                      # heads are not computed
        torch.save(model.backbone.state_dict(), path)      # a plain timm network
    """

    views = 2
    uses_unlabelled = True
    batch = WholeBatch()
    gathers = False  # contrast the images of all processes; as released, each contrasts its own

    def __init__(
        self,
        backbone: nn.Module | str,
        num_classes: int,
        taps: Sequence[int] = (1, 2, 3, 4),
        weight: float = 0.1,
        temperature: float = 0.07,
        use_labels: bool = True,
    ):
        super().__init__()
        if isinstance(backbone, str):
            if not timm.is_model(backbone):
                raise UsageError(f"timm has no model {backbone!r}: see timm.list_models().")
            backbone = timm.create_model(backbone, num_classes=num_classes)
        self.backbone = backbone
        self.taps = tuple(taps)
        self.weight, self.temperature, self.use_labels = weight, temperature, use_labels
        stages = stage_taps(backbone)
        self.last = len(stages.indices)
        if (
            not self.taps
            or list(self.taps) != sorted(set(self.taps))
            or not 1 <= self.taps[0] <= self.taps[-1] <= self.last
        ):
            raise UsageError(f"taps must be increasing stages from 1 to {self.last}, not {list(taps)}.")
        self.indices = stages.indices
        heads = projection_heads(stages.channels[:-1], stages.pooled)
        self.heads = nn.ModuleDict({str(tap): heads[tap - 1] for tap in self.taps if tap < self.last})
        initialise(self.heads)

    def forward(
        self, view1: Tensor, view2: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Training: two views (B, 3, S, S) and labels (B,) -> {"cross_entropy", "contrastive_<tap>", ...}.

        An image labelled -1 is unlabelled: the cross-entropy is the mean over the others (0 if there is none), and
        in the contrastive loss its only positive is its other view.
        Eval mode: images (B, 3, S, S) -> logits (B, num_classes), the backbone alone.
        """
        if not self.training:
            return self.backbone(view1)
        if view2 is None or labels is None:
            raise ValueError("In training mode the method needs two views and labels; call .eval() for logits.")
        return self.terms(*self.embed(torch.cat([view1, view2])), labels)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, S, S) -> L2-normalised embeddings (taps, N, dim) float32, logits (N, num_classes)."""
        maps, features = forward_stages(self.backbone, images, self.indices)
        pooled, logits = pooled_and_logits(self.backbone, features)
        embeddings = [pooled if tap == self.last else self.heads[str(tap)](maps[tap - 1]) for tap in self.taps]
        return F.normalize(torch.stack(embeddings).float(), dim=-1), logits

    def terms(self, z: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses, from what `embed` returns for view 1 and view 2 in one batch."""
        z = z.unflatten(1, (2, len(labels)))  # (taps, views, B, dim)
        all_labels = self.batch.gather(labels)
        contrasted = labels
        if self.gathers:
            z, contrasted = self.batch.gather(z, 2), all_labels
        images = torch.arange(len(contrasted), device=labels.device)
        classes = torch.where(contrasted < 0, -1 - images, contrasted)
        contrastive = self.weight * supcon_loss(z, classes if self.use_labels else None, self.temperature)
        cross_entropy = F.cross_entropy(logits[: len(labels)].float(), labels, ignore_index=-1, reduction="sum")
        # The mean over the labelled images of the whole batch: they may lie unevenly among the processes.
        labelled = (all_labels >= 0).sum().clamp(min=1) * (len(labels) / len(all_labels))
        return {
            "cross_entropy": cross_entropy / labelled,
            **{f"contrastive_{tap}": loss for tap, loss in zip(self.taps, contrastive, strict=True)},
        }
