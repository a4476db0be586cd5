"""Batches of images held in memory: one or two augmented views for training, normalised images for evaluation.

All randomness of an epoch follows from (seed, epoch). Its order, the draws of view 1 and the draws of view 2 come from
three generators. So a one-view and a two-view method see the same order and the same first views (paired seeds), and
training resumed at an epoch boundary continues exactly as it would have, without any saved state.

If several processes train one run, each draws the same for every image and makes the views of its share of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cds_lib.augment.padded import PaddedView
from cds_lib.augment.pixels import normalise
from cds_lib.augment.resized import View, chosen
from cds_lib.augment.share import WHOLE, Share
from cds_lib.augment.views import statistics, views_of
from cds_lib.errors import UsageError

ORDER, VIEW1, VIEW2 = range(3)  # the random streams of an epoch
# A GPU makes the views of several batches at once, because its small kernels take longer to launch than to run. A CPU
# is fastest on data that stays in its cache.
_PIXELS_AT_ONCE = 2**20


class Batches:
    """Augmented training batches of one data set.

    Args:
        images: (N, 3, S, S) uint8 on the training device, where the augmentation runs too.
        labels: (N,) int64 on the same device.
        batch_size: images per batch, 2 to N. The last, smaller batch is kept as in the released code, unless it holds a
            single image: batch norm cannot train on one value per channel, which 1 x 1 maps would give.
        seed: non-negative integer, which determines all randomness together with the epoch. The order is the same on
            every device, the augmentation on every device of one type.
        views: 1 (view 1 alone) or 2.
        augmentation: "cifar" (the released CIFAR views), a name of `cds_lib.augment.views.AUGMENTATIONS`, or two views
            of your own.
        size: side of the views, at most S. None: S, the only choice for the CIFAR views.
        cutout: False leaves Cutout out of CIFAR's view 1 and changes nothing else.
        share: the part of every batch that this process makes.

    Raises:
        UsageError: if the images, labels, batch size, seed or number of views are not as above, or a batch is too small
            to be shared.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        views: int = 2,
        augmentation: str | Sequence[PaddedView | View] = "cifar",
        size: int | None = None,
        cutout: bool = True,
        share: Share = WHOLE,
    ):
        if images.dtype != torch.uint8 or images.shape[1:] != (3, images.shape[-1], images.shape[-1]):
            raise UsageError(f"training images must be (N, 3, S, S) uint8, not {tuple(images.shape)} {images.dtype}.")
        if labels.shape != images.shape[:1] or labels.device != images.device:
            raise UsageError(f"{len(images)} images need as many labels on the same device, not {tuple(labels.shape)}.")
        if views not in (1, 2):
            raise UsageError(f"views must be 1 or 2, not {views}.")
        if seed < 0:
            raise UsageError(f"a seed is a non-negative integer, not {seed}.")
        pipeline: Sequence[Any] = views_of(augmentation) if isinstance(augmentation, str) else augmentation
        if len(pipeline) < views:
            raise UsageError(
                f"{views} views of an image cannot be made by {len(pipeline)}: give views=1, or another one."
            )
        if augmentation == "cifar":
            pipeline = (replace(pipeline[0], cutout=cutout), pipeline[1])
        self.pipeline = pipeline[:views]
        # Padded crops are windows of planes; resized crops are faster on channels_last images.
        layout = torch.contiguous_format if isinstance(pipeline[0], PaddedView) else torch.channels_last
        self.images, self.labels = images.contiguous(memory_format=layout), labels
        self.batch_size, self.seed, self.views = batch_size, seed, views
        self.size = images.shape[-1] if size is None else size
        if self.size > images.shape[-1] or (augmentation == "cifar" and self.size != images.shape[-1]):
            raise UsageError(f"{augmentation} views of side {size} cannot be cut from images of {images.shape[-1]}.")
        self.used, self.share = images_an_epoch(len(images), batch_size, share), share
        # Number of batches whose views are made together, which does not change the views.
        several = images.device.type == "cuda" and share.world == 1
        self.at_once = max(1, _PIXELS_AT_ONCE // (batch_size * self.size**2)) if several else 1

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return -(-self.used // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """Yield (views, labels, index) of epoch 0, 1, ...: views (B, 3, size, size) float32, normalised; labels (B,)
        int64; index (B,) int64, the images' places in the training set. With a share of the batch, views and labels are
        those of the share, and index is still that of the whole batch."""
        count, device = len(self.images), self.images.device
        order = torch.randperm(count, generator=epoch_generator(self.seed, epoch, ORDER, "cpu")).to(device)
        # Drawn for the whole epoch, because small draws for every batch would add a tenth to the cost of the views.
        generators = [epoch_generator(self.seed, epoch, stream, device) for stream in (VIEW1, VIEW2)[: self.views]]
        draws = [
            view.draw(count, self.images.shape[-1], self.size, generator)
            for view, generator in zip(self.pipeline, generators, strict=True)
        ]
        for start in range(0, self.used, self.at_once * self.batch_size):
            index = order[start : min(start + self.at_once * self.batch_size, self.used)]
            own = self.share.of(len(index))
            part = slice(start + own.start, start + own.stop)
            images = chosen(self.images, index[own])
            views = [
                view.apply(images, part_of(params, part), self.size).split(self.batch_size)
                for view, params in zip(self.pipeline, draws, strict=True)
            ]
            labels = self.labels.index_select(0, index[own])
            yield from zip(zip(*views, strict=True), *(t.split(self.batch_size) for t in (labels, index)), strict=True)


def epoch_generator(seed: int, epoch: int, stream: int, device: torch.device | str) -> torch.Generator:
    """Return the generator of one random stream of an epoch."""
    state = np.random.SeedSequence(seed, spawn_key=(epoch, stream)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def images_an_epoch(count: int, batch_size: int, share: Share) -> int:
    """Return the number of images per epoch, without a last batch of one image; UsageError if `batch_size` is not 2 to
    `count`, or a process would get fewer than two images of a batch."""
    if not 2 <= batch_size <= count:
        raise UsageError(f"a batch cannot be {batch_size} of {count} images; choose 2 to {count}.")
    used = count - (count % batch_size == 1)
    smallest = used % batch_size or batch_size
    if smallest < 2 * share.world:
        raise UsageError(
            f"{count} images in batches of {batch_size} leave a batch of {smallest}, and batch norm needs two images "
            f"in each of {share.world} processes: {smallest // 2} is the largest number of processes."
        )
    return used


def part_of(params: Any, part: slice) -> Any:
    """Return the draws of some of the images."""
    if params is None:
        return None
    if isinstance(params, Tensor):
        return params[part]
    return type(params)(*(part_of(values, part) for values in params))


def evaluation_batches(
    images: Tensor, labels: Tensor, batch_size: int, augmentation: str = "cifar", size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order: normalised images (B, 3, size, size) float32 and labels (B,). The last batch
    may be smaller. `size` is the side of the centre crop, None for the whole image."""
    side = images.shape[-1] if size is None else size
    margin = (images.shape[-1] - side) // 2
    if side > images.shape[-1]:
        raise UsageError(f"a crop of {side} cannot be cut from images of {images.shape[-1]}.")
    mean, std = statistics(augmentation)
    for part, part_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        yield normalise(part[..., margin : margin + side, margin : margin + side], mean, std), part_labels
