"""Several processes that train one run: each computes on its share of every batch, and all hold the same weights.

The objective remains a mean over the images of the whole batch. DistributedDataParallel takes the plain mean of the
processes' gradients, so the loss of a process is weighted by its share of the images. The gradients are then those of
one process, for means over the images as well as for losses of gathered tensors, and for uneven shares. Batch norm
statistics are each process's own, unless they are synchronised.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import timm.layers
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cds_lib.augment.share import Share
from cds_lib.errors import UsageError
from cds_lib.methods.method import Method
from cds_lib.methods.processes import SingleProcess, gather_rows
from cds_lib.training.budget import TrainingBudget

TIMEOUT = timedelta(minutes=10)  # how long processes wait for the slowest one; a dead one is noticed at once


class Group(SingleProcess):
    """The processes of a run and this one's place among them. `Group()` is a single process that trains alone."""

    def __init__(self, rank: int = 0, world: int = 1):
        self.share = Share(rank, world)
        self.batch_total = 0

    @property
    def world(self) -> int:
        return self.share.world

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.share.rank == 0

    # -- the batch: set by the loop, read by the methods ------------------------------------------------------------
    def begin_step(self, batch_total: int) -> int:
        """Record the total size of the next batch; returns how many of its images this process trains on."""
        self.batch_total = batch_total
        own = self.share.of(batch_total)
        return own.stop - own.start

    def weighted(self, loss: Tensor) -> Tensor:
        """Return a loss whose gradient, averaged over the processes, is that of the whole batch."""
        if self.world == 1:
            return loss
        own = self.share.of(self.batch_total)
        return loss * (self.world * (own.stop - own.start) / self.batch_total)

    def total(self, images: int) -> int:
        return images if self.world == 1 else self.batch_total

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        if self.world == 1:
            return own
        shares = [self.share.of(self.batch_total, rank) for rank in range(self.world)]
        sizes = [share.stop - share.start for share in shares]
        return gather_rows(own.movedim(dim, 0), sizes, self.share.rank).movedim(0, dim)

    def own(self, whole: Tensor) -> Tensor:
        return whole[self.share.of(self.batch_total)]

    # -- numbers and records -----------------------------------------------------------------------------------------
    def sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of the numbers over all processes."""
        if self.world > 1:
            numbers = numbers.clone()
            dist.all_reduce(numbers)
        return numbers

    def collect(self, records: list[Any]) -> list[Any]:
        """Return the records of all processes, in rank order; records hold CPU tensors, numbers and the like."""
        if self.world == 1:
            return records
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, records)
        return [record for part in parts for record in part]

    # -- the method --------------------------------------------------------------------------------------------------
    def join(self, method: Method, budget: TrainingBudget, device: torch.device) -> None:
        """Prepare a method in place for its share of the batches; UsageError if batch norms cannot synchronise."""
        if self.world == 1:
            return
        method.group = self
        method.gathers = bool(budget.gather)
        if budget.sync_batchnorm:
            if device.type != "cuda":
                raise UsageError(
                    "PyTorch synchronises batch norms on GPUs only: leave sync_batchnorm out, or train in one process."
                )
            timm.layers.convert_sync_batchnorm(method)  # only this converts timm's batch norms with an activation

    def parallel(self, method: nn.Module, classifies: bool) -> nn.Module:
        """Return the method with gradients that are averaged over the processes.

        Pre-training leaves the classifier without a gradient, which DDP must be told. Buffers are not broadcast before
        every step. Those of methods are the same in all processes; those of batch norm are only written in training,
        and `equalise` broadcasts them.
        """
        if self.world == 1:
            return method
        devices = None if (device := next(method.parameters()).device).type == "cpu" else [device]
        with warnings.catch_warnings():
            # Older PyTorch does not have forward_sync_buffers, the new name of broadcast_buffers.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                method,
                device_ids=devices,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=not classifies,
            )

    def equalise(self, method: nn.Module) -> None:
        """Copy the buffers of the first process to all others, as DDP does; evaluation and checkpoint use them."""
        if self.world > 1:
            for buffer in method.buffers():
                dist.broadcast(buffer, src=0)


def missed_another(error: BaseException) -> bool:
    """Return whether a process raises this error when another process has gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextlib.contextmanager
def joined(device_type: str, timeout: timedelta = TIMEOUT) -> Iterator[tuple[Group, torch.device]]:
    """Join the processes that torchrun's environment variables define; yields the group and this process's device.

    Args:
        device_type: "cpu", or "cuda" for one GPU per process; tensors on the CPU are then exchanged by gloo.
        timeout: if a process does not join a collective operation for this long, all others raise an error.
    """
    device = torch.device(device_type)
    if device_type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo", timeout=timeout)
    yield Group(dist.get_rank(), dist.get_world_size()), device
    dist.destroy_process_group()  # not after an error: it would wait for processes that have gone
