"""Image pairs per second: the released Pillow/torchvision pipeline against the batched one, on one core.

    python benchmarks/augmentation.py [--rounds 25]

Prints a Markdown table. Both views of 128 images (of 16 at 224x224, cropped from decoded images of 256) a measurement,
the variants interleaved in one process, median after warm-up, one thread. Compare the ratio, not the rates: those
belong to the machine and its load.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cds_lib.data.augment import CIFAR_MEAN, CIFAR_STD  # noqa: E402
from cds_lib.data.batches import Batches  # noqa: E402

BATCH, WARM_UP = {32: 128, 16: 128, 224: 16}, 5
DECODED = 256  # side of the images that 224x224 views are cropped from


class Cutout:
    """The released code's Cutout on a tensor: one hole of half the side, clipped at the borders."""

    def __call__(self, image):
        side = image.size(1)
        half = side // 4
        mask = np.ones((side, side), np.float32)
        y, x = np.random.randint(side), np.random.randint(side)
        y1, y2 = np.clip(y - half, 0, side), np.clip(y + half, 0, side)
        x1, x2 = np.clip(x - half, 0, side), np.clip(x + half, 0, side)
        mask[y1:y2, x1:x2] = 0.0
        return image * torch.from_numpy(mask).expand_as(image)


def released_views(size):
    """The two pipelines of the released `CIFAR/train.py`, or `ImageNet/main.py`, in torchvision's classes."""
    flip, tensor, jitter = T.RandomHorizontalFlip(), T.ToTensor(), T.ColorJitter(0.4, 0.4, 0.4, 0.1)
    jitter = T.RandomApply([jitter], p=0.8)
    if size == 224:
        last = T.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        colour = [jitter, T.RandomGrayscale(p=0.2)]
        view1 = T.Compose([T.RandomResizedCrop(size), flip, tensor, last])
        return view1, T.Compose([T.RandomResizedCrop(size, scale=(0.2, 1.0)), flip, *colour, tensor, last])
    last = T.Normalize(CIFAR_MEAN, CIFAR_STD)
    view1 = T.Compose([T.RandomCrop(size, padding=size // 8, fill=128), flip, tensor, Cutout(), last])
    view2 = T.Compose([T.RandomCrop(size, padding=size // 8), flip, jitter, T.RandomGrayscale(p=0.2), tensor, last])
    return view1, view2


def measure(size, rounds):
    """Median seconds a batch of pairs of (released, batched)."""
    batch, side = BATCH[size], DECODED if size == 224 else size
    arrays = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    view1, view2 = released_views(size)

    def released():
        images = [Image.fromarray(array) for array in arrays]  # as the data set class does for every item
        return torch.stack([view1(image) for image in images]), torch.stack([view2(image) for image in images])

    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
    how = {"augmentation": "imagenet", "size": size} if size == 224 else {}
    batches = Batches(images, torch.zeros(batch, dtype=torch.int64), batch_size=batch, seed=0, **how)
    epoch = iter(range(10**9))

    def batched():
        return next(batches.epoch(next(epoch)))  # one batch an epoch: order, draws and gathering are included

    seconds = {released: [], batched: []}
    for turn in range(WARM_UP + rounds):
        for variant, times in seconds.items():
            began = time.perf_counter()
            variant()
            if turn >= WARM_UP:
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="measurements of each variant (at least 20)")
    rounds = max(20, parser.parse_args().rounds)
    torch.set_num_threads(1)
    print("| images | released, pairs/s | batched, pairs/s | ratio |")
    print("|---|---|---|---|")
    for size, batch in BATCH.items():
        released, batched = measure(size, rounds)
        print(f"| {size}x{size} | {batch / released:,.0f} | {batch / batched:,.0f} | {released / batched:.1f} |")


if __name__ == "__main__":
    main()
