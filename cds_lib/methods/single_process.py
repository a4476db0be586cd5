"""The processes that train a method together, each on its share of every batch."""

from __future__ import annotations

from torch import Tensor


class SingleProcess:
    """The answers where one process trains alone. `cds_lib.training.distributed.Group` has those of several.

    Only what spans the batch needs to ask. A loss that is a mean over the images does not: the loop weighs the losses
    of the processes by their numbers of images.
    """

    def total(self, images: int) -> int:
        """The number of images in the whole batch, given that of this process."""
        return images

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        """What all processes hold along `dim`, one entry an image, in the batch's order. The gradient flows back."""
        return own

    def own(self, whole: Tensor) -> Tensor:
        """The rows of this process, of a tensor with one an image of the whole batch."""
        return whole
