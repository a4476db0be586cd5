"""Batches of images that live in memory: one or two augmented views for training, normalised images for evaluation.

Everything random about an epoch follows from (seed, epoch): its order, the draws of view 1 and the draws of view 2 come
from three generators. So a one-view and a two-view method see the same order and the same first views (paired seeds),
and training resumed at an epoch boundary goes on exactly as it would have, without any state to save.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cds_lib.data.augment import (
    CIFAR_MEAN,
    CIFAR_STD,
    View1Params,
    View2Params,
    apply_view1,
    apply_view2,
    draw_view1,
    draw_view2,
    normalise,
)
from cds_lib.errors import UsageError

ORDER, VIEW1, VIEW2 = range(3)  # the random streams of an epoch


class Batches:
    """Augmented training batches of one data set.

    Args:
        images: (N, 3, S, S) uint8 on the device that trains; the augmentation runs there.
        labels: (N,) int64 on the same device.
        batch_size: images a batch, 2 to N. The last, smaller batch is kept as in the released code, except when it
            holds a single image: BatchNorm cannot train on one value a channel, which is what 1 x 1 maps would give it.
        seed: non-negative integer; with the epoch it decides all that is random. The order is the same on every device,
            the augmentation on every device of one type.
        views: 1 (view 1 alone) or 2.
        cutout: False leaves Cutout out of view 1 and changes nothing else.

    Raises:
        UsageError: the images, labels, batch size, seed or number of views are not as above.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        views: int = 2,
        cutout: bool = True,
        mean: tuple[float, ...] = CIFAR_MEAN,
        std: tuple[float, ...] = CIFAR_STD,
    ):
        if images.dtype != torch.uint8 or images.shape[1:] != (3, images.shape[-1], images.shape[-1]):
            raise UsageError(f"training images must be (N, 3, S, S) uint8, not {tuple(images.shape)} {images.dtype}.")
        if labels.shape != images.shape[:1] or labels.device != images.device:
            raise UsageError(f"{len(images)} images need as many labels on the same device, not {tuple(labels.shape)}.")
        if not 2 <= batch_size <= len(images):
            raise UsageError(f"a batch cannot be {batch_size} of {len(images)} images; choose 2 to {len(images)}.")
        if views not in (1, 2):
            raise UsageError(f"there are 1 or 2 views of an image, not {views}.")
        if seed < 0:
            raise UsageError(f"a seed is a non-negative integer, not {seed}.")
        self.images, self.labels = images, labels
        self.batch_size, self.seed, self.views, self.cutout = batch_size, seed, views, cutout
        self.mean, self.std = mean, std
        self.used = len(images) - (len(images) % batch_size == 1)  # images an epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.used // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """Yield (views, labels, index) of epoch 0, 1, ...: each view (B, 3, S, S) float32, normalised; labels (B,) and
        index (B,), the images' places in the training set, int64."""
        count, size, device = len(self.images), self.images.shape[-1], self.images.device
        order = torch.randperm(count, generator=self._generator(epoch, ORDER, "cpu")).to(device)
        # Drawn for the whole epoch at once: small draws for every batch would add a tenth to the cost of the views.
        draws1 = draw_view1(count, size, self._generator(epoch, VIEW1, device), self.cutout)
        draws2 = draw_view2(count, size, self._generator(epoch, VIEW2, device)) if self.views == 2 else None
        for start in range(0, self.used, self.batch_size):
            part = slice(start, min(start + self.batch_size, self.used))
            index = order[part]
            images = self.images.index_select(0, index)
            views = (apply_view1(images, _part(draws1, part), self.mean, self.std),)
            if draws2 is not None:
                views += (apply_view2(images, _part(draws2, part), self.mean, self.std),)
            yield views, self.labels.index_select(0, index), index

    def _generator(self, epoch: int, stream: int, device: torch.device | str) -> torch.Generator:
        state = np.random.SeedSequence(self.seed, spawn_key=(epoch, stream)).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(state[0]))


def evaluation_batches(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    mean: tuple[float, ...] = CIFAR_MEAN,
    std: tuple[float, ...] = CIFAR_STD,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order: (normalised (B, 3, S, S) float32, labels (B,)); the last batch may be small."""
    for part, part_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        yield normalise(part, mean, std), part_labels


def _part(params: View1Params | View2Params, part: slice) -> View1Params | View2Params:
    return type(params)(*(None if values is None else values[part] for values in params))
