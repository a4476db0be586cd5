"""The processes that train a method together, each on its share of every batch, and the exchange between them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SingleProcess:
    """A single process that trains alone. For several processes see `cds_lib.training.distributed.Group`.

    A loss that is a mean over the images needs no gathering: the loop weights the loss of each process by its number of
    images.
    """

    def total(self, images: int) -> int:
        """Return the number of images in the whole batch, given the number in this process."""
        return images

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        """Return the entries of all processes along `dim`, one per image, in batch order. The gradient flows back."""
        return own

    def own(self, whole: Tensor) -> Tensor:
        """Return this process's rows of a tensor with one row per image of the whole batch."""
        return whole


class EqualShares(SingleProcess):
    """The processes of `torch.distributed`, with equally many images each, as under a `DistributedSampler`.

    If `torch.distributed` is not initialised, it is one process. For losses of gathered tensors, the mean of the
    processes' gradients, which DistributedDataParallel takes, is the gradient of one process with all the images.
    """

    def total(self, images: int) -> int:
        return images * _world()

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        if _world() == 1:
            return own
        return gather_rows(own.movedim(dim, 0), [own.shape[dim]] * _world(), dist.get_rank()).movedim(0, dim)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(own: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
    """Gather `own` (sizes[rank], ...) of each process to (sum of sizes, ...); backward sums their gradients."""
    return _Gather.apply(own, sizes, rank)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        padded = own.new_zeros(max(sizes), *own.shape[1:])  # all_gather needs equal sizes
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        grad = grad_output.contiguous().clone()
        dist.all_reduce(grad)
        return grad.split(ctx.sizes)[ctx.rank], None, None
