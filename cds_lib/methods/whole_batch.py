"""What a method asks about its batch when several processes train one run, each on its share of every batch."""

from __future__ import annotations

from torch import Tensor


class WholeBatch:
    """Of one process, whose images are the whole batch. `cds_lib.training.distributed` has that of several.

    A loss that is a mean over the images needs nothing of this: the loop weighs every process by its images.
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
