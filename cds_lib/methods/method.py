"""The base of all methods: a backbone, what supervises it, and what the training has to know about that."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from cds_lib.methods.processes import SingleProcess


class Method(nn.Module):
    """A network, `backbone`, and what supervises it; only the network remains. A subclass writes `losses`. Called:

        in training mode: method(*views, labels=labels) -> its losses by name
        in eval mode: method(images) -> logits (B, num_classes), the backbone's alone; no head is computed

    Class attributes:

    views: how many augmented views of each image it is given, 1 or 2.
    classifies: False of a pre-training, which leaves the backbone's classifier untrained; nothing is evaluated then.
    needs_index: it is also given `index` (B,) of the whole batch, the images' places in the training set.
    compiles: False where a step cannot be one graph for the whole training.
    teacher: the trained method that it distils, if it does; not among its modules.

    It follows timm's conventions: in `timm.optim.create_optimizer_v2(method, ...)` the network has the weight decay and
    layer decay that it has on its own, and what supervises it has the learning rate of the classifier.

    What the training sets where several processes, each with its share of every batch, train the run:

    group: the processes; a method whose loss or memory spans the batch gathers from them what one process would have.
    gathers: CDS contrasts the images of the whole batch; if False, as released, each process its own.
    """

    backbone: nn.Module
    views = 1
    classifies = True
    needs_index = False
    compiles = True
    teacher: nn.Module | None = None
    group = SingleProcess()
    gathers = False

    def forward(self, *batch: Tensor, **named: Tensor) -> dict[str, Tensor] | Tensor:
        """As above; ValueError in training mode without labels, and for images of integers."""
        given = [value for value in (*batch, *named.values()) if value is not None]
        if isinstance(given[0], Tensor) and not given[0].is_floating_point():
            raise ValueError(f"Images must be normalised and floating-point, not {given[0].dtype}.")
        if not self.training:
            return self.backbone(given[0])
        if len(given) <= self.views:
            needed = ("one view", "two views")[self.views - 1]
            raise ValueError(f"In training mode the method needs {needed} and labels; call .eval() for logits.")
        return self.losses(*batch, **named)

    def losses(self, *batch: Any, **named: Any) -> dict[str, Tensor]:
        """Views (B, 3, S, S), as many as `views`, labels (B,) and, for those that need it, index (B,) -> the loss terms
        by name, already weighted, whose sum is to be minimised."""
        raise NotImplementedError

    def _one_batch(self, *batch: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The images of all views, and their labels; ValueError for another number of views than `views`."""
        views, labels = (batch[:-1], batch[-1]) if labels is None else (batch, labels)
        if len(views) != self.views:
            raise ValueError(f"This method was made for {self.views} view(s) of an image, not for {len(views)}.")
        return views[0] if len(views) == 1 else torch.cat(views), labels.repeat(len(views))

    def prepare(self, labels: Tensor) -> None:
        """Called once before training, with the labels (N,) of the whole training set; -1 of unlabelled images."""

    # -- timm's conventions, with the names that the network's parameters have here ----------------------------------
    @property
    def num_classes(self) -> int:
        return cast(int, self.backbone.num_classes)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        config = self.backbone.pretrained_cfg
        return config | {key: _within(config[key]) for key in ("classifier", "first_conv") if config.get(key)}

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that are not decayed, besides the vectors."""
        return {_PREFIX + name for name in getattr(self.backbone, "no_weight_decay", set)()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """From a parameter's name to its layer; the last one for the classifier and what supervises the network."""
        from timm.models import group_parameters
        from timm.optim import auto_group_layers

        if hasattr(self.backbone, "group_matcher"):
            layers = group_parameters(self.backbone, self.backbone.group_matcher(coarse=coarse), reverse=True)
        else:  # what timm does with these
            layers = auto_group_layers(self.backbone)
        last = max(layers.values())
        return lambda name: layers.get(name.removeprefix(_PREFIX), last)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.backbone.set_grad_checkpointing(enable)


_PREFIX = "backbone."


def _within(names: str | Iterable[str]) -> str | tuple[str, ...]:
    """A name, or several, of the network's parts, as this module's."""
    return _PREFIX + names if isinstance(names, str) else tuple(_PREFIX + name for name in names)
