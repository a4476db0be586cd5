"""Contrastive deep supervision (Zhang et al., ECCV 2022): what it is, with `losses/contrastive.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses.contrastive import apart, supcon_loss
from cds_lib.losses.precision import at_least_float32, cross_entropy
from cds_lib.methods.method import Method
from cds_lib.models.backbones import as_backbone, forward_stages, initialise, pooled_and_logits, stage_taps
from cds_lib.models.heads import projection_heads


class ContrastiveDeepSupervision(Method):
    """Cross-entropy at the end plus a contrastive loss on the embeddings of the stages.

        loss = CE(logits of view 1, labels) + weight * sum over taps of supcon(embeddings of both views)

    Both views go through the network together (batch norm sees 2B images). A tap is a stage, counted from 1. The last
    stage's embedding is the pooled vector the classifier reads; an earlier stage's is the output of a separable-
    convolution head. All embeddings have the same length and are L2-normalised; there is no projection MLP.
    Source: `CIFAR/train.py`, `CIFAR/resnet.py` of the released code, which taps all four stages (the paper's formula
    sums over the stages before the last) and uses weight 0.1 and temperature 0.07.

    Args:
        backbone: a network of `create_backbone`, any timm network with stage features, or a timm model name (built
            without pre-trained weights).
        num_classes: of the classifier.
        taps: stages to supervise, increasing, from 1 to the number of stages (at most 4, see `stage_taps`); None: all.
        weight: lambda of every tap, 0 or more.
        temperature: of the contrastive loss, above 0.
        use_labels: positives are all images of the class (SupCon); if False, the other view only (SimCLR).
        cross_entropy_views: 1, as released, or 2: then the cross-entropy is the mean over both views.

    Raises:
        UsageError: a tap the network does not have, a weight that is none, a network without stages or with another
            number of classes, a name that timm does not know, or another number of views.

    Example:
        network = timm.create_model("regnetx_002", num_classes=10)
        model = ContrastiveDeepSupervision(network, num_classes=10)
        losses = model(view1, view2, labels)               # in training: views (B, 3, S, S), labels (B,)
        sum(losses.values()).backward()
        logits = model.eval()(images)                      # (B, 10); the heads are not computed
        cds_lib.export_backbone(model, "regnetx_002.pt")   # timm.create_model(..., checkpoint_path=...) loads it
    """

    views = 2

    def __init__(
        self,
        backbone: nn.Module | str,
        num_classes: int,
        taps: Sequence[int] | None = None,
        weight: float = 0.1,
        temperature: float = 0.07,
        use_labels: bool = True,
        cross_entropy_views: int = 1,
    ):
        super().__init__()
        self.backbone = as_backbone(backbone, num_classes)
        stages = stage_taps(self.backbone)
        self.last = len(stages.indices)
        if isinstance(taps, int):
            raise UsageError(f"taps are a list of stages, such as [{taps}], not {taps}.")
        self.taps = tuple(range(1, self.last + 1) if taps is None else taps)
        if (
            not self.taps
            or not all(isinstance(tap, int) for tap in self.taps)
            or list(self.taps) != sorted(set(self.taps))
            or not 1 <= self.taps[0] <= self.taps[-1] <= self.last
        ):
            raise UsageError(f"taps must be increasing stages from 1 to {self.last}, not {list(self.taps)}.")
        if not 0 <= weight < math.inf:
            raise UsageError(f"weight must be a finite number, 0 or more, not {weight}.")
        if cross_entropy_views not in (1, 2):
            raise UsageError(f"cross_entropy_views must be 1 or 2, not {cross_entropy_views}.")
        self.weight, self.temperature, self.use_labels = weight, temperature, use_labels
        self.cross_entropy_views = cross_entropy_views
        self.indices = stages.indices
        heads = projection_heads(stages.channels[:-1], stages.pooled)
        self.heads = nn.ModuleDict({str(tap): heads[tap - 1] for tap in self.taps if tap < self.last})
        initialise(self.heads)  # once more than needed: committed runs began with these weights, not the first ones

    def losses(self, view1: Tensor, view2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Two views (B, 3, S, S) and labels (B,) -> {"cross_entropy", "contrastive_<tap>", ...}.

        An image labelled -1 is unlabelled: the cross-entropy is the mean over the others (0 if there is none), and
        in the contrastive loss its only positive is its other view.
        """
        if view1.shape != view2.shape or labels.shape != view1.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                "Two views (B, 3, S, S) of the same images and labels (B,) int64 are needed, not "
                f"{tuple(view1.shape)}, {tuple(view2.shape)} and {tuple(labels.shape)} {labels.dtype}."
            )
        return self.terms(*self.embed(torch.cat([view1, view2])), labels)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, S, S) -> L2-normalised embeddings (taps, N, dim) float32, logits (N, num_classes)."""
        maps, features = forward_stages(self.backbone, images, self.indices)
        pooled, logits = pooled_and_logits(self.backbone, features)
        embeddings = [pooled if tap == self.last else self.heads[str(tap)](maps[tap - 1]) for tap in self.taps]
        return F.normalize(at_least_float32(torch.stack(embeddings)), dim=-1), logits

    def terms(self, z: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses, from what `embed` returns for view 1 and view 2 in one batch."""
        z = z.unflatten(1, (2, len(labels)))  # (taps, views, B, dim)
        all_labels = self.group.gather(labels)
        contrasted = labels
        if self.gathers:
            z, contrasted = self.group.gather(z, 2), all_labels
        classes = apart(contrasted) if self.use_labels else None
        contrastive = self.weight * supcon_loss(z, classes, self.temperature)
        targets = labels.repeat(self.cross_entropy_views)
        total = cross_entropy(logits[: len(targets)], targets, ignore_index=-1, reduction="sum")
        # The mean over the labelled images of the whole batch: they may lie unevenly among the processes.
        labelled = (all_labels >= 0).sum().clamp(min=1)
        return {
            "cross_entropy": total / labelled * (len(all_labels) / len(targets)),
            **{f"contrastive_{tap}": loss for tap, loss in zip(self.taps, contrastive, strict=True)},
        }


CDS = ContrastiveDeepSupervision
