"""Batches of images that do not fit into memory: worker processes decode and crop them during training.

Workers send whole uint8 crops; colour and normalisation are applied in batches on the device. Randomness follows from
(seed, epoch, image), never from the number of workers.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from cds_lib.augment.batches import ORDER, VIEW1, VIEW2, epoch_generator, images_an_epoch, part_of
from cds_lib.augment.pixels import normalise
from cds_lib.augment.resized import View, autoaugment, draw_geometry, resized_crop
from cds_lib.augment.share import WHOLE, Share
from cds_lib.augment.views import statistics, views_of
from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import read_rgb
from cds_lib.study.errors import RunError
from cds_lib.study.processes import allow_many_files, begin_as_child, fork_server

STORED = 8 / 7  # short side of a resized image, as a multiple of the side of a plain crop: 256 of 224


class StreamedBatches:
    """Augmented training batches of image files, with the interface of `Batches`.

    Args:
        files: N image files.
        labels: (N,) int64 on the device.
        batch_size, seed, views, augmentation, size: as in `Batches`, "cifar" excepted.
        device: device of the views.
        workers: decoding processes, 0 for this process; the batches are the same.
        share: part of every batch that is decoded here.

    Raises:
        UsageError: an unsuitable augmentation, or fewer than two images in a batch or in a process's share of it.
            RunError, while iterating, names an image that cannot be decoded.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        views: int,
        augmentation: str,
        size: int,
        device: torch.device,
        workers: int,
        share: Share = WHOLE,
    ):
        if augmentation == "cifar":
            raise UsageError("CIFAR's views are made of images in memory; choose another augmentation for files.")
        self.files, self.labels = _packed(files), labels
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.pipeline: Sequence[Any] = views_of(augmentation)[:views]
        self.used, self.share = images_an_epoch(len(self.files), batch_size, share), share
        self.decoder = Decoder(_Crops(self.files, self.pipeline, size, seed), device, workers)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.used // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """Yield (views, labels, index) of epoch 0, 1, ..., as `Batches.epoch`."""
        count = len(self.files)
        order = torch.randperm(count, generator=epoch_generator(self.seed, epoch, ORDER, "cpu"))[: self.used]
        generators = [epoch_generator(self.seed, epoch, stream, self.device) for stream in (VIEW1, VIEW2)]
        colours = [
            view.draw_colour(count, generator) for view, generator in zip(self.pipeline, generators, strict=False)
        ]
        batches = order.split(self.batch_size)
        owned = [self.share.of(len(index)) for index in batches]
        loaded = self.decoder.batches(
            [[(epoch, i) for i in index[own].tolist()] for index, own in zip(batches, owned, strict=True)]
        )
        batches = order.to(self.device).split(self.batch_size)  # copied once: each copy waits for the step before
        for number, (index, own, parts) in enumerate(zip(batches, owned, loaded, strict=True)):
            part = slice(number * self.batch_size + own.start, number * self.batch_size + own.stop)
            views = tuple(
                view.finish(part_crops.to(self.device, non_blocking=True), part_of(colour, part))
                for view, part_crops, colour in zip(self.pipeline, parts, colours, strict=True)
            )
            yield views, self.labels.index_select(0, index[own]), index


class StreamedEvaluation:
    """Every image once, in order, and its label: short side resized to 8/7 of `size`, centre crop, normalised."""

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        batch_size: int,
        augmentation: str,
        size: int,
        device: torch.device,
        workers: int,
    ):
        self.labels, self.device, self.statistics = labels, device, statistics(augmentation)
        self.order = in_order(len(files), batch_size)
        self.decoder = Decoder(_Centres(_packed(files), size), device, workers)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for (crops,), index in zip(self.decoder.batches(self.order), self.order, strict=True):
            part_labels = self.labels[index[0] : index[-1] + 1]
            yield normalise(crops.to(self.device, non_blocking=True), *self.statistics), part_labels


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """Split the numbers below `count` into batches; the last one may be smaller."""
    return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]


class _Crops(Dataset):
    """Image i in an epoch, as one uint8 crop (3, S, S) per view."""

    def __init__(self, files: np.ndarray, pipeline: Sequence[View], size: int, seed: int):
        self.files, self.pipeline, self.size, self.seed = files, pipeline, size, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = key
        image = _pixels(self.files[index])
        return tuple(self._crop(view, image, (epoch, number, index)) for number, view in enumerate(self.pipeline))

    def _crop(self, view: View, image: Tensor, key: tuple[int, ...]) -> Tensor:
        state = np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint64)
        geometry = draw_geometry(1, torch.Generator().manual_seed(int(state[0])))
        if view.scale is None:
            image = _short_side(image, self.size)
        height, width = torch.tensor(image.shape[1:]).split(1)
        boxes = view.boxes(geometry.uniform, height, width, self.size)
        crop = resized_crop(image[None], boxes, geometry.flip, self.size)[0]
        if view.autoaugment:
            crop = TF.pil_to_tensor(autoaugment(Image.fromarray(crop.permute(1, 2, 0).numpy()), geometry.seed.item()))
        return crop


class _Centres(Dataset):
    """Image i, resized and cut to its centre, as a single crop (3, S, S) uint8."""

    def __init__(self, files: np.ndarray, size: int):
        self.files, self.size = files, size

    def __getitem__(self, index: int) -> tuple[Tensor]:
        return (TF.center_crop(_short_side(_pixels(self.files[index]), self.size), [self.size] * 2),)


def _packed(files: Sequence[Path]) -> np.ndarray:
    """Pack the paths into one array of bytes. Every worker is sent a copy, and a list of a million would take seconds
    and half a gigabyte."""
    return np.array([os.fsencode(file) for file in files])


def _pixels(file: bytes) -> Tensor:
    """Decode a whole image (3, H, W) uint8 with Pillow. PyTorch then resizes it, in a third of Pillow's time; for a
    photograph, 2 % of the values differ from Pillow's by one grey level."""
    return TF.pil_to_tensor(decode(Path(os.fsdecode(file))))


class Decoder:
    """Decodes batches of a data set in `workers` processes, into memory that is pinned for a GPU. The processes start
    with the first batch and are kept, because starting them takes a good part of an epoch of a small set.

    Args:
        collate: how items become a batch (None: stacked).
    """

    def __init__(
        self, dataset: Dataset, device: torch.device, workers: int, collate: Callable[[list[Tensor]], Any] | None = None
    ):
        self.keys: list[list[Any]] = []  # the keys of each batch; the loader reads them at the start of every pass
        options: dict[str, Any] = {}
        if workers:
            # Workers end when the training is killed. Their server imports this module once for all of them: in each
            # worker it would take seconds, one after another.
            options = {"multiprocessing_context": fork_server([__name__]), "worker_init_fn": begin_as_child}
            allow_many_files()  # each tensor that a worker has ready is an open file
        self.loader = DataLoader(
            dataset,
            batch_sampler=self.keys,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from the global one
            persistent_workers=workers > 0,
            **options,
        )

    def batches(self, keys: list[list[Any]]) -> Iterator[list[Tensor]]:
        """Yield the batches of the items with these keys."""
        self.keys[:] = keys
        try:
            yield from self.loader
        except Exception as error:  # a worker's message starts with its traceback
            if "DataLoader worker (pid" in str(error):
                raise RunError(
                    "A process that decodes images died, out of memory or out of space in /dev/shm (--shm-size of a "
                    "container): free some, or try fewer jobs (--jobs), then run the same command again."
                ) from error
            if not isinstance(error, RunError) and "in DataLoader worker process" not in str(error):
                raise
            last = str(error).strip().splitlines()[-1]
            if "/torch_" in last:  # the file by which a worker hands its batch over
                last += ": free space in /dev/shm (--shm-size of a container), then run the same command again."
            raise RunError(last.removeprefix(f"{RunError.__module__}.{RunError.__qualname__}: ")) from error


def _short_side(image: Tensor, size: int) -> Tensor:
    return TF.resize(image, [round(size * STORED)])


def decode(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Read a whole RGB image; RunError names a file that is damaged or has another size (width, height)."""
    try:
        return read_rgb(path, size)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise RunError(f"{path} cannot be used ({error}): repair or remove it and import the set again.") from error
