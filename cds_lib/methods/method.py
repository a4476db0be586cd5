"""What all methods are: a backbone, what supervises it, and what the training has to know about that."""

from __future__ import annotations

from torch import Tensor, nn

from cds_lib.methods.single_process import SingleProcess


class Method(nn.Module):
    """Called in training as `method(*views, labels=labels)`, a method returns its named loss terms, already weighted,
    whose sum is to be minimised. `backbone` is the plain network that remains.

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

    def prepare(self, labels: Tensor) -> None:
        """Called once before training, with the labels (N,) of the whole training set; -1 of unlabelled images."""
