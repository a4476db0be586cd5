"""Normalisation, the last step of every view and the whole test transform."""

from functools import lru_cache

import torch
from torch import Tensor

# The released code normalises CIFAR-100 with these CIFAR-10 means and (too small) standard deviations as well.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
# As in timm and torchvision.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Images of at least this many values are normalised one by one on a CPU, to stay in its cache.
_ALONE = 3 * 128**2


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], places: Tensor | None = None) -> Tensor:
    """Return (images / 255 - mean) / std, float32, channels_last. images: (B, 3, S, S) uint8, or float32 whole numbers,
    which may be overwritten. places: (B,) int64, the place of each image in the result; None: in order."""
    scale, shift = _scale_and_shift(mean, std, images.shape[-1], images.device)
    # Work on whole rows of pixels: on single pixels the vector units take eight times as long.
    if images.device.type == "cpu" and images[0].numel() >= _ALONE:
        x = torch.empty(images.shape, memory_format=torch.channels_last)
        pixels = x.permute(0, 2, 3, 1)
        for image, place in zip(images, range(len(x)) if places is None else places.tolist(), strict=True):
            pixels[place].copy_(image.permute(1, 2, 0)).flatten(1).mul_(scale).add_(shift)
        return x
    x = images if places is None else images.index_select(0, places.argsort())
    x = x.float().contiguous(memory_format=torch.channels_last)
    x.permute(0, 2, 3, 1).flatten(2).mul_(scale).add_(shift)
    return x


@lru_cache
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return scale and shift for a row of `width` pixels, each (3 width,)."""
    m, s = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    scale, shift = (values.float().repeat(width).to(device) for values in (1 / (255 * s), -m / s))
    return scale, shift
