"""Toy images in place of yours: noise with a coloured bar, whose place and colour define the class."""

import torch
from torch import Tensor

CLASSES = 4


def toy_images(count: int = 256, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (count, 3, side, side) uint8 and labels (count,) int64, from 0 to CLASSES - 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(100, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    bars = images.unfold(2, side // 4, side // 4)  # (count, 3, 4, side, side / 4)
    for label in range(CLASSES):
        bars[labels == label, label % 3, label] += 150
    return images, labels
