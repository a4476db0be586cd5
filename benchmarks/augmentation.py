"""Time two views from uint8 images, in batches, against the released Pillow pipelines on the same core.

A measurement is an epoch: 1,024 images in batches of 128 at CIFAR's sizes, or 32 images in batches of 16 at 224x224,
from decoded images of 256x256. The released pipelines are those of `CIFAR/train.py` and
`ImageNet/Contrastive_Deep_Supervision/main.py`, in torchvision's classes.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torch import Tensor

from cds_lib.augment.batches import Batches
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD
from timing import Row, interleaved, show

IMAGES = {32: (1024, 128), 16: (1024, 128), 224: (32, 16)}  # side of a view -> images of an epoch and of a batch
DECODED = 256


class Cutout:
    """The released code's Cutout on a tensor: one hole of half the side, clipped at the borders."""

    def __call__(self, image: Tensor) -> Tensor:
        side = image.size(1)
        half = side // 4
        mask = np.ones((side, side), np.float32)
        y, x = np.random.randint(side), np.random.randint(side)
        y1, y2 = np.clip(y - half, 0, side), np.clip(y + half, 0, side)
        x1, x2 = np.clip(x - half, 0, side), np.clip(x + half, 0, side)
        mask[y1:y2, x1:x2] = 0.0
        return image * torch.from_numpy(mask).expand_as(image)


def released_views(size: int) -> tuple[Callable, Callable]:
    """Return the two released pipelines for views of this side."""
    flip, tensor = T.RandomHorizontalFlip(), T.ToTensor()
    colour = [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8), T.RandomGrayscale(p=0.2)]
    if size == 224:
        last = T.Normalize(IMAGENET_MEAN, IMAGENET_STD)
        view1 = T.Compose([T.RandomResizedCrop(size), flip, tensor, last])
        return view1, T.Compose([T.RandomResizedCrop(size, scale=(0.2, 1.0)), flip, *colour, tensor, last])
    last = T.Normalize(CIFAR_MEAN, CIFAR_STD)
    view1 = T.Compose([T.RandomCrop(size, padding=size // 8, fill=128), flip, tensor, Cutout(), last])
    return view1, T.Compose([T.RandomCrop(size, padding=size // 8), flip, *colour, tensor, last])


def rows(rounds: int) -> Iterator[Row]:
    """Yield one row per size."""
    for size, (count, batch_size) in IMAGES.items():
        side = DECODED if size == 224 else size
        arrays = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
        pipelines = released_views(size)

        def released(arrays: np.ndarray = arrays, pipelines: tuple = pipelines) -> list[Tensor]:
            images = [Image.fromarray(array) for array in arrays]  # as the data set class does for every item
            return [torch.stack([view(image) for image in images]) for view in pipelines]

        images = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
        how = {"augmentation": "imagenet", "size": size} if size == 224 else {}
        batches = Batches(images, torch.zeros(count, dtype=torch.int64), batch_size=batch_size, seed=0, **how)
        epoch = iter(range(10**9))

        def batched(batches: Batches = batches, epoch: Iterator[int] = epoch) -> None:
            for _ in batches.epoch(next(epoch)):  # order, draws and gathering are included
                pass

        yield f"{size}x{size}", *interleaved(batched, released, rounds)


if __name__ == "__main__":
    show("augmentation", "both views of a batch: ours, the released pipeline with Pillow", rows)
