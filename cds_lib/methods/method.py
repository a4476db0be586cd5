"""What all methods are: a backbone, what supervises it, and what the training has to know about that."""

from __future__ import annotations

from torch import Tensor, nn

from cds_lib.methods.single_process import SingleProcess


class Method(nn.Module):
    """A network, `backbone`, and what supervises it; only the network remains. A subclass writes `losses`. Called:

        in training mode: method(*views, labels=labels) -> its losses by name
        in eval mode: method(images) -> logits (B, num_classes), the backbone's alone; no head is computed

    What a class says of itself:

    views: how many augmented views of each image it is given, 1 or 2.
    classifies: False of a pre-training, which leaves the backbone's classifier untrained; nothing is evaluated then.
    needs_index: it is also given `index` (B,) of the whole batch, the images' places in the training set.
    teacher: the trained method that it distils, if it does; not among its modules.

    What the training sets where several processes, each with its share of every batch, train the run:

    group: whom a method asks whose loss, or whose memory, spans the batch; then it computes what one process would.
    gathers: CDS contrasts the images of the whole batch; if not, as released, each process its own.
    """

    backbone: nn.Module
    views = 1
    classifies = True
    needs_index = False
    teacher: nn.Module | None = None
    group = SingleProcess()
    gathers = False

    def forward(self, *batch: Tensor, **named: Tensor) -> dict[str, Tensor] | Tensor:
        """As above; ValueError in training mode without labels."""
        given = [value for value in (*batch, *named.values()) if value is not None]
        if not self.training:
            return self.backbone(given[0])
        if len(given) <= self.views:
            needed = ("one view", "two views")[self.views - 1]
            raise ValueError(f"In training mode the method needs {needed} and labels; call .eval() for logits.")
        return self.losses(*batch, **named)

    def losses(self, *batch: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Views (B, 3, S, S), as many as `views`, labels (B,) and, for those that need it, index (B,) -> the loss terms
        by name, already weighted, whose sum is to be minimised."""
        raise NotImplementedError

    def prepare(self, labels: Tensor) -> None:
        """Called once before training, with the labels (N,) of the whole training set; -1 of unlabelled images."""
