"""The two training views of the released CIFAR code, batched and per sample: uint8 images in, normalised floats out.

View 1 (classified): grey-padded random crop, flip, Cutout. View 2 (contrasted): black-padded random crop, flip, colour
jitter, greyscale. Source: `CIFAR/train.py` of the released code. Drawing parameters is separate from applying them, so
that the same parameters can be given to Pillow and torchvision: the pixels are then equal, bit for bit.

Images hold whole numbers from 0 to 255 after every operation, as Pillow's do, in float32 where arithmetic needs it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from cds_lib.data.colour import ColourParams, apply_colour_, arrange, draw_colour

# The released code normalises CIFAR-100 with these CIFAR-10 means and (too small) standard deviations as well.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
# Those of timm and torchvision.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

GREY_PADDING, BLACK_PADDING = 128, 0  # of view 1 and of view 2
FLIP_P = 0.5

# From this many values on, a CPU takes an image through all steps of the normalisation while it is in the cache.
_ALONE = 3 * 128**2


class View1Params(NamedTuple):
    """Of n images: crop offsets (n,) int64 from 0 to 2 (S // 8), flip (n,) bool, Cutout centre (n, 2) int64 or None."""

    top: Tensor
    left: Tensor
    flip: Tensor
    hole: Tensor | None


class View2Params(NamedTuple):
    """Of n images: crop offsets and flip as in view 1, then the fields of `ColourParams`."""

    top: Tensor
    left: Tensor
    flip: Tensor
    jitter: Tensor
    order: Tensor
    factors: Tensor
    grey: Tensor


def draw_view1(n: int, size: int, generator: torch.Generator, cutout: bool = True) -> View1Params:
    """Draw for n images of side `size`, on the generator's device. Without Cutout the other draws stay the same."""
    top, left, flip = _draw_crop_flip(n, size, generator)
    hole = torch.randint(size, (n, 2), generator=generator, device=generator.device)
    return View1Params(top, left, flip, hole if cutout else None)


def draw_view2(n: int, size: int, generator: torch.Generator) -> View2Params:
    """Draw for n images of side `size`, on the generator's device."""
    top, left, flip = _draw_crop_flip(n, size, generator)
    return View2Params(top, left, flip, *draw_colour(n, generator))


def apply_view1(images: Tensor, params: View1Params, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images (B, 3, S, S) uint8 -> (B, 3, S, S) float32, normalised, channels_last; parameters on the same device."""
    rows = torch.arange(len(images), device=images.device)
    x = _crop_flip(images, params.top, params.left, params.flip, GREY_PADDING, rows)
    if params.hole is not None:
        x.mul_(_outside_hole(params.hole, images.shape[-1]))
    return normalise(x, mean, std)


def apply_view2(images: Tensor, params: View2Params, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images (B, 3, S, S) uint8 -> (B, 3, S, S) float32, normalised, channels_last; parameters on the same device."""
    colour = ColourParams(*params[3:])
    arrangement = arrange(colour)
    x = _crop_flip(images, params.top, params.left, params.flip, BLACK_PADDING, arrangement.rows).float()
    apply_colour_(x, colour, arrangement)
    return normalise(x, mean, std, arrangement.rows)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], places: Tensor | None = None) -> Tensor:
    """(B, 3, S, S) uint8, or float32 of whole numbers -> (x / 255 - mean) / std, float32, channels_last as the networks
    run. places: (B,) int64, where each image goes in the batch that is returned; None: they stay in order.

    It is the test transform, and the end of every view. Float images may be changed.
    """
    scale, shift = _scale_and_shift(mean, std, images.shape[-1], images.device)
    # A row of pixels at a time: single pixels are too short for the vector units, which take eight times as long then.
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
    """Of a row of `width` pixels, each (3 width,)."""
    m, s = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return tuple(values.float().repeat(width).to(device) for values in (1 / (255 * s), -m / s))


def _draw_crop_flip(n: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    offsets = torch.randint(2 * (size // 8) + 1, (2, n), generator=generator, device=generator.device)
    return offsets[0], offsets[1], torch.rand(n, generator=generator, device=generator.device) < FLIP_P


def _crop_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, fill: int, rows: Tensor) -> Tensor:
    """Pad all images by S // 8, crop each at (top, left), flip some; return images `rows`, in that order (uint8)."""
    batch, channels, size, width = images.shape
    if images.dtype != torch.uint8 or channels != 3 or size != width:
        raise ValueError(f"expected square uint8 images (B, 3, S, S), got {images.dtype} {tuple(images.shape)}.")
    padding = size // 8
    side = size + 2 * padding
    padded = images.new_full((batch, channels, side, side), fill)
    padded[..., padding : padding + size, padding : padding + size] = images
    crops = _windows(padded, (rows * channels * side + top[rows]) * side + left[rows], size)
    position = torch.arange(batch, device=images.device)
    return torch.cat([crops, crops.flip(3)]).index_select(0, position + batch * flip[rows])


def _outside_hole(centre: Tensor, size: int) -> Tensor:
    """Centres (B, 2) -> (B, 1, S, S) uint8: 0 in a square of side S // 2 around each, cut at the borders, else 1."""
    half = size // 2 // 2
    canvas = torch.ones(1, 1, 2 * size, 2 * size, dtype=torch.uint8, device=centre.device)
    canvas[..., size - half : size + half, size - half : size + half] = 0
    return _windows(canvas, (size - centre[:, 0]) * 2 * size + size - centre[:, 1], size)


def _windows(canvas: Tensor, start: Tensor, size: int) -> Tensor:
    """Square crops (n, C, size, size) of contiguous images (B, C, L, L), given the element (n,) each crop starts at.

    Entry i of the strided view is the crop that starts at element i, so that cropping is choosing entries: whole rows
    of pixels are copied, which is four times faster than gathering single ones.
    """
    _, channels, side, _ = canvas.shape
    reach = (channels - 1) * side * side + (size - 1) * (side + 1)
    strides = (1, side * side, side, 1)
    return canvas.as_strided((canvas.numel() - reach, channels, size, size), strides).index_select(0, start)
