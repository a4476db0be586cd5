"""Batches of images that are too large, or too many, for memory: decoded and cropped by worker processes as it goes.

A worker sends whole uint8 crops; colour and normalisation are done in batches on the device. What is random follows
from (seed, epoch, image), never from the number of workers.
"""

from __future__ import annotations

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
from cds_lib.augment.colour import ColourParams
from cds_lib.augment.pixels import normalise
from cds_lib.augment.resized import View, autoaugment, draw_geometry, resized_crop
from cds_lib.augment.share import WHOLE, Share
from cds_lib.augment.views import AUGMENTATIONS, check_augmentation, statistics
from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import read_rgb
from cds_lib.study.errors import RunError
from cds_lib.study.processes import allow_many_files, begin_as_child, fork_server

STORED = 8 / 7  # the short side an image is resized to, of the side of a plain crop: 256 of 224


class StreamedBatches:
    """Augmented training batches of image files, with the interface of `Batches`.

    Args:
        files: N image files.
        labels: (N,) int64 on the device.
        batch_size, seed, views, augmentation, size: as in `Batches`, "cifar" excepted.
        device: where the views are wanted.
        workers: processes that decode; 0: this one does. The batches are the same.
        share: which part of every batch is decoded here.

    Raises:
        UsageError: another augmentation, fewer than two images a batch, or a process's share of it. RunError, while
            iterating: an image that cannot be decoded, by name.
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
        if check_augmentation(augmentation) == "cifar":
            raise UsageError("CIFAR's views are made of images in memory; choose another augmentation for files.")
        if not 2 <= batch_size <= len(files):
            raise UsageError(f"a batch cannot be {batch_size} of {len(files)} images; choose 2 to {len(files)}.")
        self.files, self.labels = _packed(files), labels
        self.batch_size, self.seed, self.size, self.device, self.workers = batch_size, seed, size, device, workers
        self.pipeline = AUGMENTATIONS[augmentation][:views]
        self.used, self.share = images_an_epoch(len(self.files), batch_size, share), share

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.used // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """Yield (views, labels, index) of epoch 0, 1, ..., as `Batches.epoch`."""
        count = len(self.files)
        order = torch.randperm(count, generator=epoch_generator(self.seed, epoch, ORDER, "cpu"))[: self.used]
        crops = _Crops(self.files, self.pipeline, self.size, self.seed, epoch)
        generators = [epoch_generator(self.seed, epoch, stream, self.device) for stream in (VIEW1, VIEW2)]
        colours = [
            ColourParams(*view.draw_colour(count, generator))
            for view, generator in zip(self.pipeline, generators, strict=False)
        ]
        batches = order.split(self.batch_size)
        owned = [self.share.of(len(index)) for index in batches]
        loaded = decoded_batches(
            crops, [index[own].tolist() for index, own in zip(batches, owned, strict=True)], self.device, self.workers
        )
        batches = order.to(self.device).split(self.batch_size)  # copied once: a copy a step waits for the step before
        for number, (index, own, parts) in enumerate(zip(batches, owned, loaded, strict=True)):
            part = slice(number * self.batch_size + own.start, number * self.batch_size + own.stop)
            views = tuple(
                view.finish(part_crops.to(self.device, non_blocking=True), part_of(colour, part))
                for view, part_crops, colour in zip(self.pipeline, parts, colours, strict=True)
            )
            yield views, self.labels.index_select(0, index[own]), index


def streamed_evaluation(
    files: Sequence[Path],
    labels: Tensor,
    batch_size: int,
    augmentation: str,
    size: int,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order: short side resized to 8/7 of `size`, centre crop, normalised; and its label."""
    batches = [list(range(i, min(i + batch_size, len(files)))) for i in range(0, len(files), batch_size)]
    loaded = decoded_batches(_Centres(_packed(files), size), batches, device, workers)
    for (crops,), index in zip(loaded, batches, strict=True):
        part_labels = labels[index[0] : index[-1] + 1]
        yield normalise(crops.to(device, non_blocking=True), *statistics(augmentation)), part_labels


class _Crops(Dataset):
    """Image i as one uint8 crop (3, S, S) a view."""

    def __init__(self, files: np.ndarray, pipeline: tuple[View, ...], size: int, seed: int, epoch: int):
        self.files, self.pipeline, self.size, self.seed, self.epoch = files, pipeline, size, seed, epoch

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image = _pixels(self.files[index])
        return tuple(self._crop(view, image, (self.epoch, number, index)) for number, view in enumerate(self.pipeline))

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


def worker_options(workers: int) -> dict[str, Any]:
    """Options of a loader with worker processes: they are not forked, and end with a training that is killed."""
    if not workers:
        return {}
    # What the server has imported its workers need not: each would take seconds, one after another, at every epoch.
    context = fork_server([__name__])
    allow_many_files()  # each image that is on its way is an open file
    return {"multiprocessing_context": context, "worker_init_fn": begin_as_child}


def _packed(files: Sequence[Path]) -> np.ndarray:
    """The paths as one array of bytes: every worker of every epoch is sent them, and of a million paths a list takes
    seconds and half a gigabyte in each."""
    return np.array([os.fsencode(file) for file in files])


def _pixels(file: bytes) -> Tensor:
    """A whole image (3, H, W) uint8, decoded by Pillow. PyTorch resizes it in a third of Pillow's time, to values of
    which two in a hundred are rounded apart, by one grey level, of photographs."""
    return TF.pil_to_tensor(decode(Path(os.fsdecode(file))))


def decoded_batches(
    dataset: Dataset,
    batches: list[list[int]],
    device: torch.device,
    workers: int,
    collate: Callable[[list[Tensor]], Any] | None = None,
) -> Iterator[list[Tensor]]:
    """Yield the batches, decoded by `workers` processes, on the CPU, from where a GPU can fetch them meanwhile;
    collate: how items become a batch (None: stacked)."""
    try:
        yield from DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from the process's own, and shift what follows
            **worker_options(workers),
        )
    except Exception as error:  # a worker's comes with its traceback wrapped round the sentence
        if "DataLoader worker (pid" in str(error):
            raise RunError(
                "A process that decodes images died, for want of memory or of space in /dev/shm (--shm-size of a "
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


def decode(path: Path) -> Image.Image:
    """A whole RGB image; RunError names a file that is damaged."""
    try:
        return read_rgb(path)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise RunError(f"{path} cannot be decoded ({error}): repair or remove it and import the set again.") from error
