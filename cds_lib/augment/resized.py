"""Batched views of larger images, drawn per sample: a resized or plain crop, a flip, then AutoAugment or colour."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import AutoAugment

from cds_lib.augment.colour import Colour, ColourParams, arrange
from cds_lib.augment.padded import FLIP_P
from cds_lib.augment.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise

RATIO = (3 / 4, 4 / 3)  # range of width / height of a resized crop; tried TRIES times, as torchvision does
TRIES = 10
DRAWS = 2 * TRIES + 2  # uniform numbers per box


class Geometry(NamedTuple):
    """Draws for n images: uniform (n, DRAWS) for `View.boxes`, flip (n,) bool, AutoAugment seed (n,) int64."""

    uniform: Tensor
    flip: Tensor
    seed: Tensor


class ViewParams(NamedTuple):
    """The draws for a view of n images: boxes (n, 4) int64 (top, left, height, width), flip and seed as in `Geometry`,
    and colour, or None."""

    boxes: Tensor
    flip: Tensor
    seed: Tensor
    colour: ColourParams | None = None


@dataclass(frozen=True)
class View:
    """One view of larger images.

    Attributes:
        scale: the smallest fraction of the area that a resized crop takes. None: a plain crop of the output's size.
        colour: a `Colour`; True: as released; False: none.
        autoaugment: whether to apply torchvision's AutoAugment, with its policy for ImageNet.
        mean, std: statistics that the view is normalised with, for channels in 0..1; ImageNet's by default, CIFAR's in
            `PaddedView`. Give both views of a pair the same.
    """

    scale: float | None
    colour: Colour | bool = False
    autoaugment: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self):
        if self.colour is True:
            object.__setattr__(self, "colour", Colour())

    def draw(self, n: int, side: int, size: int, generator: torch.Generator) -> ViewParams:
        """Draw for n images of side `side` and views of side `size`, on the generator's device; ValueError if no crop
        fits."""
        if self.scale is None and size > side:
            raise ValueError(f"A crop of {size} cannot be cut from images of {side}: give a scale, which resizes.")
        uniform, flip, seed = draw_geometry(n, generator)
        sides = torch.full((n,), side, device=generator.device)
        return ViewParams(self.boxes(uniform, sides, sides, size), flip, seed, self.draw_colour(n, generator))

    def draw_colour(self, n: int, generator: torch.Generator) -> ColourParams | None:
        return self.colour.draw(n, generator) if isinstance(self.colour, Colour) else None

    def boxes(self, uniform: Tensor, heights: Tensor, widths: Tensor, size: int) -> Tensor:
        """Return crops (n, 4) int64 (top, left, height, width) for images of these sizes, each (n,) int64."""
        if self.scale is None:
            height = width = torch.full_like(heights, size)
        else:
            height, width = _resized_crop_sizes(uniform, heights, widths, self.scale)
        top = (uniform[:, -2] * (heights - height + 1)).long()
        left = (uniform[:, -1] * (widths - width + 1)).long()
        return torch.stack([top, left, height, width], dim=1)

    def apply(self, images: Tensor, params: ViewParams, size: int) -> Tensor:
        """Turn images (B, 3, S, S) uint8 into views (B, 3, size, size) float32, normalised, channels_last. A CPU is
        fastest if the images are channels_last as well."""
        crops = resized_crop(images, params.boxes, params.flip, size)
        if self.autoaugment:  # on the CPU: on a GPU it would synchronise many times per image
            pairs = zip(crops.cpu(), params.seed.tolist(), strict=True)
            crops = torch.stack([autoaugment(crop, seed) for crop, seed in pairs]).to(crops.device)
        return self.finish(crops, params.colour)

    def finish(self, crops: Tensor, colour: ColourParams | None) -> Tensor:
        """Apply colour and normalisation to crops (B, 3, s, s) uint8; returns float32, channels_last."""
        if not isinstance(self.colour, Colour) or colour is None:
            return normalise(crops, self.mean, self.std)
        arrangement = arrange(colour)
        x = chosen(crops, arrangement.rows).to(torch.float32, memory_format=torch.contiguous_format)
        self.colour.apply_(x, colour, arrangement)
        return normalise(x, self.mean, self.std, arrangement.rows)


def chosen(images: Tensor, index: Tensor) -> Tensor:
    """Return images[index] in the same memory format, which a plain index_select does not keep."""
    if images.is_contiguous():
        return images.index_select(0, index)
    return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


def draw_geometry(n: int, generator: torch.Generator) -> Geometry:
    """Draw the geometry of n images, on the generator's device."""
    device = generator.device
    return Geometry(
        torch.rand(n, DRAWS, generator=generator, device=device, dtype=torch.float64),
        torch.rand(n, generator=generator, device=device) < FLIP_P,
        torch.randint(2**62, (n,), generator=generator, device=device),
    )


def autoaugment(image: Tensor, seed: int) -> Tensor:
    """Apply AutoAugment (ImageNet policy) to an image, uint8 (3, S, S) or Pillow's; the global random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed a GPU's as well
        return _AUTOAUGMENT(image)


_AUTOAUGMENT = AutoAugment()


def _resized_crop_sizes(uniform: Tensor, heights: Tensor, widths: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return height and width (n,) as torchvision's RandomResizedCrop: the first of ten tries that fits, else the
    largest crop that the ratio allows. `View.boxes` places it at random, torchvision centrally: long images differ."""
    area = (heights * widths)[:, None] * (least + (1 - least) * uniform[:, :TRIES])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = (low + (high - low) * uniform[:, TRIES : 2 * TRIES]).exp()
    width, height = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
    first = fits.int().argmax(1, keepdim=True)
    width, height = width.gather(1, first)[:, 0], height.gather(1, first)[:, 0]
    widest = torch.minimum(widths, (heights * RATIO[1]).round().long())
    highest = torch.minimum(heights, (widths / RATIO[0]).round().long())
    found = fits.any(1)
    return torch.where(found, height, highest), torch.where(found, width, widest)


def resized_crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crop, resize as Pillow does, bilinear with antialiasing, and flip some: (B, 3, S, S) uint8 -> (B, 3, size, size)
    uint8. boxes: (B, 4) int64 (top, left, height, width); flip: (B,) bool.

    Values near a half may round differently from Pillow. In noise, the worst case, up to one in twenty differs by one
    grey level, and fewer than one in 100,000 by two.
    """
    return (_resize_each if images.device.type == "cpu" else _resize_together)(images, boxes, flip, size)


def _resize_each(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Resize image by image with PyTorch's kernel for bytes, which exists only on the CPU and is the fastest there."""
    crops = []
    for i, ((top, left, height, width), flipped) in enumerate(zip(boxes.tolist(), flip.tolist(), strict=True)):
        # A slice of one image, not the image, so that the kernel recognises channels_last, its fast case.
        crop = images[i : i + 1, :, top : top + height, left : left + width]
        crop = interpolate(crop, (size, size), mode="bilinear", antialias=True)
        crops.append(crop.flip(3) if flipped else crop)
    return torch.cat(crops)


def _resize_together(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Resize by matrix products with the weights of columns, then rows, rounding in between as Pillow does."""
    batch, channels, side, _ = images.shape
    top, left, height, width = boxes.unbind(1)
    columns = _weights(left, width, side, size).transpose(1, 2)  # (B, S, size)
    columns = torch.where(flip[:, None, None], columns.flip(2), columns)
    rows = _weights(top, height, side, size)  # (B, size, S)
    with torch.autocast(images.device.type, enabled=False):  # half precision would round pixels
        wide = (images.float().reshape(batch, channels * side, side) @ columns).add_(0.5).floor_()
        x = (rows[:, None] @ wide.reshape(batch, channels, side, size)).add_(0.5).floor_()
    return x.clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side): each pixel's weight in each output pixel, along a line cropped at start, length (B,)."""
    device = start.device
    scale = (length.double() / size)[:, None, None]
    centre = (torch.arange(size, device=device) + 0.5)[:, None] * scale
    place = torch.arange(side, device=device) - start[:, None]  # (B, side), within the crop
    reach = scale.clamp(min=1)  # Pillow widens the triangle when it shrinks, and keeps it when it enlarges
    weights = (1 - ((place[:, None] + 0.5) - centre).abs() / reach).clamp_(min=0)
    weights *= ((place >= 0) & (place < length[:, None]))[:, None]
    return (weights / weights.sum(2, keepdim=True)).float()
