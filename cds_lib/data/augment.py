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

# The released code normalises CIFAR-100 with these CIFAR-10 means and (too small) standard deviations as well.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)

GREY_PADDING, BLACK_PADDING = 128, 0  # of view 1 and of view 2
FLIP_P, JITTER_P, GREY_P = 0.5, 0.8, 0.2
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of ColorJitter's operations
JITTER_STRENGTH = (0.4, 0.4, 0.4, 0.1)  # factors 1 +- 0.4 for the first three, hue shift 0 +- 0.1 of the colour circle

# The C library gives memory above a limit back to the system when a tensor is freed, and getting it again costs a page
# fault for every 4 KiB: half the time of the views. Its limit follows the largest tensor freed so far, up to 32 MiB
# (glibc's dynamic M_MMAP_THRESHOLD), so freeing one that size, never touched, sets it for the process.
torch.empty(2**25 - 2**16, dtype=torch.uint8)


class View1Params(NamedTuple):
    """Of n images: crop offsets (n,) int64 from 0 to 2 (S // 8), flip (n,) bool, Cutout centre (n, 2) int64 or None."""

    top: Tensor
    left: Tensor
    flip: Tensor
    hole: Tensor | None


class View2Params(NamedTuple):
    """Of n images: crop offsets and flip as in view 1; jitter and grey (n,) bool: whether it is done; order (n, 4)
    int64: the jitter operations, first to last; factors (n, 4) float32: column k belongs to operation k."""

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
    uniform = torch.rand(n, 10, generator=generator, device=generator.device)
    strength = torch.tensor(JITTER_STRENGTH, device=generator.device)
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
    factors = centre + strength * (2 * uniform[:, 4:8] - 1)
    return View2Params(
        top, left, flip, uniform[:, 8] < JITTER_P, uniform[:, :4].argsort(1), factors, uniform[:, 9] < GREY_P
    )


def apply_view1(images: Tensor, params: View1Params, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images (B, 3, S, S) uint8 -> (B, 3, S, S) float32, normalised, channels_last; parameters on the same device."""
    rows = torch.arange(len(images), device=images.device)
    x = _crop_flip(images, params.top, params.left, params.flip, GREY_PADDING, rows)
    if params.hole is not None:
        x.mul_(_outside_hole(params.hole, images.shape[-1]))
    return normalise(x, mean, std)


def apply_view2(images: Tensor, params: View2Params, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images (B, 3, S, S) uint8 -> (B, 3, S, S) float32, normalised, channels_last; parameters on the same device."""
    # Images are handled in the order "hue last, hue third, second, first, not jittered". Then, for each j, those whose
    # blend j comes before the hue shift are a leading slice and those where it comes after are the slice behind it.
    hue_position = (params.order == HUE).int().argmax(1)
    group = torch.where(params.jitter, 3 - hue_position, 4)
    rows = group.argsort()
    ends = torch.bincount(group, minlength=5).cumsum(0).tolist()
    x = _crop_flip(images, params.top, params.left, params.flip, BLACK_PADDING, rows).float()
    _jitter(x.flatten(2), params.order[rows], params.factors[rows], hue_position[rows], ends)
    grey = params.grey[rows].nonzero().squeeze(1)
    x[grey] = _luma(x.index_select(0, grey))[:, None]
    return _normalise_(x.index_select(0, rows.argsort()), mean, std)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The test transform: (B, 3, S, S) uint8 -> (x / 255 - mean) / std, float32, channels_last as the networks run."""
    return _normalise_(images.float(), mean, std)


def _normalise_(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    scale, shift = _scale_and_shift(mean, std, x.device)
    return x.mul_(scale).add_(shift).contiguous(memory_format=torch.channels_last)


@lru_cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    m, s = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (mean, std))
    return (1 / (255 * s)).float().to(device), (-m / s).float().to(device)


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


def _jitter(x: Tensor, order: Tensor, factors: Tensor, hue_position: Tensor, ends: list[int]) -> None:
    """Colour jitter in place. x (B, 3, P) float32, sorted as `apply_view2` says; ends[g]: images of groups 0 to g."""
    jittered = ends[3]
    j = torch.arange(3, device=x.device)
    blends = order.gather(1, j + (j >= hue_position[:, None]))  # (B, 3): the order without the hue shift
    strengths = factors.gather(1, blends)
    for j, cut in enumerate((ends[2], ends[1], ends[0])):
        _blend_(x[:cut], blends[:cut, j], strengths[:cut, j])
    _shift_hue_(x[:jittered], factors[:jittered, HUE])
    for j, cut in enumerate((ends[2], ends[1], ends[0])):
        _blend_(x[cut:jittered], blends[cut:jittered, j], strengths[cut:jittered, j])


def _blend_(x: Tensor, operation: Tensor, factor: Tensor) -> None:
    """Brightness, contrast or saturation, whichever (B,) `operation` says: all blend an image with a reference.

    reference + factor (x - reference), cut to [0, 255] and rounded down, as Pillow's Image.blend does. The reference is
    black, the rounded mean of the image's luma, or the luma itself. x (B, 3, P) float32 is changed in place.
    """
    luma = _luma(x)
    mean = luma.mean(1, keepdim=True).add_(0.5).floor_()
    reference = luma.mul_(operation[:, None] == SATURATION).add_(mean.mul_(operation[:, None] == CONTRAST))[:, None]
    x.sub_(reference).mul_(factor[:, None, None]).add_(reference).clamp_(0, 255).floor_()


def _luma(x: Tensor) -> Tensor:
    """(B, 3, ...) -> (B, ...): ITU-R 601-2 in 1/65536ths, as Pillow. No sum reaches 2^24 of them: exact in float32."""
    red, green, blue = x.unbind(1)
    weighted = red.mul(19595 / 65536).add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536)
    return weighted.add_(0.5).floor_()


def _shift_hue_(x: Tensor, fraction: Tensor) -> None:
    """Turn the hue by a fraction (B,) of the circle, through 8-bit HSV as Pillow does; x (B, 3, P) float32, in place.

    Compared with Pillow for all 2^24 colours: no difference.
    """
    red, green, blue = x.unbind(1)
    # Every intermediate result goes into one of six planes: new tensors would cost as much as the arithmetic.
    value, chroma, red_leads, green_leads, difference, other = x.new_empty(6, len(x), x.shape[2])
    torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
    torch.minimum(torch.minimum(red, green, out=chroma), blue, out=chroma)
    torch.sub(value, chroma, out=chroma)
    # Which channel leads, as 0.0 or 1.0: plain arithmetic is ten times faster here than torch.where.
    torch.eq(value, red, out=red_leads)
    torch.eq(value, green, out=green_leads).addcmul_(green_leads, red_leads, value=-1)
    # difference = green - blue, blue - red or red - green; side = its sign, 1 for 0
    torch.sub(red, green, out=difference)
    difference.addcmul_(red_leads, torch.add(red, blue, out=other).sub_(green, alpha=2), value=-1)
    difference.addcmul_(green_leads, torch.add(green, blue, out=other).sub_(red, alpha=2))
    side = torch.add(difference, 0.5, out=other).sign_()
    # hue = corner + difference / chroma with corner 0, 2 or 4, in the order of operations that rounds as Pillow's does
    hue = red_leads.mul_(-4).sub_(green_leads, alpha=2).add_(4).add_(side)
    ratio = torch.sub(chroma, difference.abs_(), out=difference).div_(torch.clamp(chroma, min=1, out=green_leads))
    hue.addcmul_(side, ratio, value=-1).div_(6)
    hue.sub_(torch.floor(hue, out=other)).mul_(255).floor_()
    # torchvision cuts the shift to a whole number of 255ths towards zero and lets the 8-bit hue wrap around at 256.
    hue.add_((fraction.double() * 255).trunc().float()[:, None])
    hue.sub_(torch.div(hue, 256, out=other).floor_(), alpha=256)
    saturation = chroma.div_(torch.clamp(value, min=1, out=other)).mul_(255).floor_()

    # Channel = value (1 - saturation / 255 * weight); over the hue its weight is a trapezium, here 42.5 high (a sixth).
    scale = saturation.mul_(value).mul_(1 / (255 * 42.5))
    red_weight = torch.sub(hue, 127.5, out=other).abs_().neg_().add_(85).clamp_(0, 42.5)
    torch.sub(value, red_weight.mul_(scale).round_(), out=red)
    for channel, centre in ((green, 85), (blue, 170)):
        weight = torch.sub(hue, centre, out=other).abs_().sub_(42.5).clamp_(0, 42.5)
        torch.sub(value, weight.mul_(scale).round_(), out=channel)
