"""The base class of all methods: a backbone, its supervision, and what the training loop must know about it."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from cds_lib.methods.processes import SingleProcess


class Method(nn.Module):
    """A network (`backbone`) and its supervision, of which only the network is kept. A subclass implements `losses`.

    How to call a method:
        in training mode: method(*views, labels=labels) -> losses by name
        in eval mode: method(images) -> logits (B, num_classes) of the backbone; no head is computed

    Attributes of the class:
        views: number of augmented views of each image that the method takes, 1 or 2.
        classifies: False for pre-training: the backbone's classifier stays untrained, and nothing is evaluated.
        needs_index: whether the method also takes `index` (B,), the places of the whole batch in the training set.
        compiles: False if a step cannot be one graph for the whole training.
        teacher: the trained method that this method distils, or None; not a submodule.

    Methods follow timm's conventions. In `timm.optim.create_optimizer_v2(method, ...)` the network has the weight decay
    and layer decay that it has on its own, and its supervision has the learning rate of the classifier.

    Set by the training loop if several processes train the run, each on its share of every batch:
        group: the processes. A method whose loss or memory spans the batch gathers what one process would have.
        gathers: whether CDS contrasts the images of the whole batch, or only those of each process (as released).
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
        """Return losses or logits as above; ValueError in training mode without labels, and for integer images."""
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
        """Return the weighted loss terms by name; their sum is minimised. The batch is as many views (B, 3, S, S) as
        `views` says, labels (B,) and, if the method needs it, index (B,)."""
        raise NotImplementedError

    def _one_batch(self, *batch: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the images of all views and their labels; ValueError if the number of views is not `views`."""
        views, labels = (batch[:-1], batch[-1]) if labels is None else (batch, labels)
        if len(views) != self.views:
            raise ValueError(f"This method was made for {self.views} view(s) of an image, not for {len(views)}.")
        return views[0] if len(views) == 1 else torch.cat(views), labels.repeat(len(views))

    def prepare(self, labels: Tensor) -> None:
        """Called once before training with the labels (N,) of the whole training set; unlabelled images have -1."""

    # -- timm's conventions, with the names that the network's parameters have here ----------------------------------
    @property
    def num_classes(self) -> int:
        return cast(int, self.backbone.num_classes)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        config = self.backbone.pretrained_cfg
        return config | {key: _within(config[key]) for key in ("classifier", "first_conv") if config.get(key)}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides the one-dimensional ones, which have none."""
        return {_PREFIX + name for name in getattr(self.backbone, "no_weight_decay", set)()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return a function from parameter names to layer numbers; classifier and supervision have the last one."""
        from timm.models import group_parameters
        from timm.optim import auto_group_layers

        if hasattr(self.backbone, "group_matcher"):
            layers = group_parameters(self.backbone, self.backbone.group_matcher(coarse=coarse), reverse=True)
        else:  # as timm does
            layers = auto_group_layers(self.backbone)
        last = max(layers.values())
        return lambda name: layers.get(name.removeprefix(_PREFIX), last)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.backbone.set_grad_checkpointing(enable)


_PREFIX = "backbone."


def _within(names: str | Iterable[str]) -> str | tuple[str, ...]:
    """Turn a name, or several names, of the network's parts into names in the method."""
    return _PREFIX + names if isinstance(names, str) else tuple(_PREFIX + name for name in names)
