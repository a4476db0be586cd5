"""Contrastive deep supervision (Zhang et al., ECCV 2022). Its loss is in `losses/contrastive.py`."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses.contrastive import apart, supcon_loss
from cds_lib.losses.precision import at_least_float32, cross_entropy
from cds_lib.methods.method import Method
from cds_lib.methods.processes import EqualShares
from cds_lib.models.backbones import as_backbone, forward_stages, initialise, pooled_and_logits, stage_taps
from cds_lib.models.heads import VariedHead, projection_heads


class ContrastiveDeepSupervision(Method):
    """Contrastive deep supervision: cross-entropy plus a contrastive loss on the embeddings of the stages.

        loss = CE(logits of view 1, labels) + weight * sum over taps of supcon(embeddings of both views)

    Both views pass through the network as one batch, so batch norm sees 2B images. A tap is a stage, counted from 1.
    The embedding of the last stage is the pooled vector that the classifier reads. Heads of separable convolutions
    embed the earlier stages. All embeddings have the same length and are L2-normalised; there is no projection MLP.
    Source: `CIFAR/train.py` and `CIFAR/resnet.py` of the released code, which taps all four stages (the paper's formula
    sums over the stages before the last) and uses weight 0.1 and temperature 0.07.

    Args:
        backbone: a network from `create_backbone`, any timm network with stage features, or the name of a timm model,
            which is built without pre-trained weights.
        num_classes: number of classes.
        taps: stages to supervise, increasing, from 1 to the number of stages (at most 4, see `stage_taps`); None: all.
        weight: lambda, the weight of the contrastive loss at every tap, at least 0.
        temperature: temperature of the contrastive loss, above 0.
        use_labels: if True, all images of a class are positives (SupCon); if False, only the other view is (SimCLR).
        cross_entropy_views: 1 (as released) or 2. With 2, the cross-entropy is the mean over both views.
        criterion: function that replaces the cross-entropy in the term "cross_entropy". criterion(logits, targets)
            returns the mean over the images, as the losses of timm and torch do. It also receives images labelled -1,
            which `nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.1)` leaves out.
        head_units: separable-convolution units in the head of every tap, the last stage included. None (as released):
            one unit for each stage that follows, so none at the last stage.
        head_mlp: whether every head, that of the last stage included, ends with two fully connected layers.
        gather: whether to contrast the images of all processes of `torch.distributed`, which must hold equally many. If
            False (as released), each process contrasts its own. Use it in your own loop under DistributedDataParallel.

    Raises:
        UsageError: if `taps` are not increasing stages of the network, the weight is negative or not finite, the
            temperature is not positive, the network has no stages or another number of classes, timm does not know the
            name, or `cross_entropy_views` is not 1 or 2.

    Example:
        network = timm.create_model("regnetx_002", num_classes=10)
        model = ContrastiveDeepSupervision(network, num_classes=10)
        losses = model(view1, view2, labels)               # training mode: views (B, 3, S, S), labels (B,)
        sum(losses.values()).backward()
        logits = model.eval()(images)                      # (B, 10); the heads are not computed
        cds_lib.export_backbone(model, "regnetx_002.pt")   # timm.create_model(..., checkpoint_path=...) loads it
    """

    views = 2
    all_labelled = False  # set by `prepare`; True saves counting the labelled images of every batch

    def __init__(
        self,
        backbone: nn.Module | str,
        num_classes: int,
        taps: Sequence[int] | None = None,
        weight: float = 0.1,
        temperature: float = 0.07,
        use_labels: bool = True,
        cross_entropy_views: int = 1,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        gather: bool = False,
        head_units: int | None = None,
        head_mlp: bool = False,
    ):
        super().__init__()
        self.backbone = as_backbone(backbone, num_classes)
        stages = stage_taps(self.backbone)
        self.last = len(stages.indices)
        if isinstance(taps, int):
            raise UsageError(f"taps must be a list of stages, such as [{taps}], not {taps}.")
        asked = list(range(1, self.last + 1) if taps is None else taps)
        self.taps = tuple(tap for tap in range(1, self.last + 1) if tap in asked)
        if not asked or list(self.taps) != asked:
            raise UsageError(f"taps must be increasing stages from 1 to {self.last}, not {asked}.")
        if not 0 <= weight < math.inf:
            raise UsageError(f"weight must be a finite number, 0 or more, not {weight}.")
        if not temperature > 0:
            raise UsageError(f"The temperature must be positive, not {temperature}.")
        if cross_entropy_views not in (1, 2):
            raise UsageError(f"cross_entropy_views must be 1 or 2, not {cross_entropy_views}.")
        self.weight, self.temperature, self.use_labels = weight, temperature, use_labels
        self.cross_entropy_views, self.criterion = cross_entropy_views, criterion
        if gather:
            self.group, self.gathers = EqualShares(), True
        self.indices = stages.indices
        if head_units is None and not head_mlp:
            heads = projection_heads(stages.channels[:-1], stages.pooled)
            self.heads = nn.ModuleDict({str(tap): heads[tap - 1] for tap in self.taps if tap < self.last})
        else:
            units = {tap: self.last - tap if head_units is None else head_units for tap in self.taps}
            varied = {tap: VariedHead(stages.channels[tap - 1], stages.pooled, units[tap], head_mlp) for tap in units}
            self.heads = nn.ModuleDict({str(tap): head for tap, head in varied.items()})
        initialise(self.heads)  # a second time, because committed runs started from these weights
        self.heads.to(next(self.backbone.parameters()).device)

    def prepare(self, labels: Tensor) -> None:
        """Record from labels (N,) whether all training images have a label; if so, no batch is checked for it."""
        self.all_labelled = bool((labels >= 0).all())

    def losses(
        self, view1: Tensor, view2: Tensor, labels: Tensor | None = None, targets: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return "cross_entropy", "contrastive_<tap>", ... for two views (B, 3, S, S) and labels (B,).

        An image labelled -1 is unlabelled. The cross-entropy is the mean over the labelled images (0 if there are
        none). In the contrastive loss the only positive of an unlabelled image is its other view. `targets`
        (B, num_classes), those of mixed images, replace the labels in the cross-entropy. `labels` may then be omitted,
        which leaves every image its other view as the only positive.
        """
        known = (
            targets is not None if labels is None else (labels.shape, labels.dtype) == (view1.shape[:1], torch.int64)
        )
        if view1.shape != view2.shape or not known:
            given = "no labels" if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
            raise ValueError(
                "Two views (B, 3, S, S) of the same images and labels (B,) int64 are needed, not "
                f"{tuple(view1.shape)}, {tuple(view2.shape)} and {given}."
            )
        return self.terms(*self.embed(torch.cat([view1, view2])), labels, targets)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return L2-normalised embeddings (taps, N, dim) float32 and logits (N, num_classes) of images (N, 3, S, S)."""
        maps, features = forward_stages(self.backbone, images, self.indices)
        pooled, logits = pooled_and_logits(self.backbone, features)
        at_taps = [(str(tap), maps[tap - 1]) for tap in self.taps]
        embeddings = [self.heads[tap](stage) if tap in self.heads else pooled for tap, stage in at_taps]
        return F.normalize(at_least_float32(torch.stack(embeddings)), dim=-1), logits

    def terms(
        self, z: Tensor, logits: Tensor, labels: Tensor | None, targets: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the loss terms, given what `embed` returns for view 1 and view 2 as one batch."""
        z, classes = z.unflatten(1, (2, -1)), labels if self.use_labels else None  # (taps, views, B, dim), (B,)
        if self.gathers:
            z, classes = self.group.gather(z, 2), None if classes is None else self.group.gather(classes)
        contrastive = supcon_loss(z, None if classes is None else apart(classes), self.temperature)
        return {
            "cross_entropy": self._cross_entropy(logits, labels if targets is None else targets),  # type: ignore[arg-type]
            **{f"contrastive_{tap}": self.weight * loss for tap, loss in zip(self.taps, contrastive, strict=True)},
        }

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of logits (2B, num_classes), with labels (B,) or soft targets (B, num_classes)."""
        repeated = torch.cat([targets] * self.cross_entropy_views)
        logits = logits[: len(repeated)]
        if self.criterion is not None:
            return self.criterion(at_least_float32(logits), repeated)
        if targets.is_floating_point():
            return cross_entropy(logits, repeated)
        total = cross_entropy(logits, repeated, ignore_index=-1, reduction="sum")
        # The mean over the labelled images of the whole batch, which may be spread unevenly over the processes.
        images = self.group.total(len(targets))
        labelled = images if self.all_labelled else (self.group.gather(targets) >= 0).sum().clamp(min=1)
        return total / labelled * (images / len(repeated))


CDS = ContrastiveDeepSupervision
