"""Several processes that train one run: each computes on its share of every batch, all hold the same weights.

What is minimised stays a mean over the images of the whole batch. DistributedDataParallel takes the plain mean of the
processes' gradients, so a process's loss is weighted by its share of the images; then gradients are those of one
process, for losses that are means over the images as for losses of gathered tensors, and for uneven shares. Batch norm
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

TIMEOUT = timedelta(minutes=10)  # for the slowest of the processes to arrive at a meeting; a dead one is seen at once


class Group(SingleProcess):
    """The processes of a run and this one's place among them. `Group()` is a single process, with nothing to tell."""

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

    # -- the batch: what the loop sets and methods ask ---------------------------------------------------------------
    def begin_step(self, batch_total: int) -> int:
        """Note how many images the next batch has in all; returns how many of them this process trains on."""
        self.batch_total = batch_total
        own = self.share.of(batch_total)
        return own.stop - own.start

    def weighted(self, loss: Tensor) -> Tensor:
        """A loss whose gradient, averaged over the processes, is that of the whole batch."""
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
        """The numbers of all processes, added up."""
        if self.world > 1:
            numbers = numbers.clone()
            dist.all_reduce(numbers)
        return numbers

    def collect(self, records: list[Any]) -> list[Any]:
        """The records of all processes, one after the other: of CPU tensors, numbers and the like."""
        if self.world == 1:
            return records
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, records)
        return [record for part in parts for record in part]

    # -- the method --------------------------------------------------------------------------------------------------
    def join(self, method: Method, budget: TrainingBudget, device: torch.device) -> None:
        """Prepare a method, in place, for its share of the batches; UsageError where batch norms cannot meet."""
        if self.world == 1:
            return
        method.group = self
        method.gathers = bool(budget.gather)
        if budget.sync_batchnorm:
            if device.type != "cuda":
                raise UsageError(
                    "PyTorch synchronises batch norms on GPUs only: leave sync_batchnorm out, or train in one process."
                )
            timm.layers.convert_sync_batchnorm(method)  # it alone knows timm's batch norms that hold an activation

    def parallel(self, method: nn.Module, classifies: bool) -> nn.Module:
        """The method, with gradients that are averaged over the processes.

        A pre-training leaves the classifier without a gradient, which DDP must be told. Buffers are not sent before
        every step: those of methods are the same everywhere, and batch norm's, which training only writes, are sent by
        `equalise`.
        """
        if self.world == 1:
            return method
        devices = None if (device := next(method.parameters()).device).type == "cpu" else [device]
        with warnings.catch_warnings():
            # The new name of broadcast_buffers, forward_sync_buffers, is not in older PyTorch.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                method,
                device_ids=devices,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=not classifies,
            )

    def equalise(self, method: nn.Module) -> None:
        """Give all processes the buffers of the first, as DDP does: evaluation and checkpoint use those."""
        if self.world > 1:
            for buffer in method.buffers():
                dist.broadcast(buffer, src=0)


def missed_another(error: BaseException) -> bool:
    """Whether this is what a process runs into when another one has gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextlib.contextmanager
def joined(device_type: str, timeout: timedelta = TIMEOUT) -> Iterator[tuple[Group, torch.device]]:
    """Join the processes that the variables of torchrun name; yields the group and the device of this process.

    Args:
        device_type: "cpu", or "cuda": a GPU a process, and what lies on the CPU goes by gloo.
        timeout: a process that does not come to a meeting of all for so long is an error of all the others.
    """
    device = torch.device(device_type)
    if device_type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo", timeout=timeout)
    yield Group(dist.get_rank(), dist.get_world_size()), device
    dist.destroy_process_group()  # not after an error: it would wait for processes that have gone
