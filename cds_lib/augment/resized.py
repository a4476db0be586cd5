"""Views of larger images, batched and per sample: a resized or plain crop, a flip, then AutoAugment or colour."""

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

RATIO = (3 / 4, 4 / 3)  # of width and height of a resized crop; tried TRIES times, as torchvision does
TRIES = 10
DRAWS = 2 * TRIES + 2  # uniform numbers a box takes


class Geometry(NamedTuple):
    """For n images: uniform (n, DRAWS) for the crops of `View.boxes`, flip (n,) bool, AutoAugment seed (n,) int64."""

    uniform: Tensor
    flip: Tensor
    seed: Tensor


class ViewParams(NamedTuple):
    """The draws for a view of n images: boxes (n, 4) int64 (top, left, height, width), flip and seed as in `Geometry`,
    and the colour or None."""

    boxes: Tensor
    flip: Tensor
    seed: Tensor
    colour: ColourParams | None = None


@dataclass(frozen=True)
class View:
    """One view of larger images.

    Attributes:
        scale: the least share of the area that a resized crop takes; None: a crop of the output's size.
        colour: a `Colour`; True: as released; False: none.
        autoaugment: torchvision's, with its policy for ImageNet.
        mean, std: the view is normalised with, of the channels in 0..1; by default ImageNet's, in `PaddedView` CIFAR's.
            Give both views of a pair the same.
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
        """Draw for n images of side `side` and views of side `size`, on the generator's device; ValueError where no
        crop fits."""
        if self.scale is None and size > side:
            raise ValueError(f"A crop of {size} cannot be cut from images of {side}: give a scale, which resizes.")
        uniform, flip, seed = draw_geometry(n, generator)
        sides = torch.full((n,), side, device=generator.device)
        return ViewParams(self.boxes(uniform, sides, sides, size), flip, seed, self.draw_colour(n, generator))

    def draw_colour(self, n: int, generator: torch.Generator) -> ColourParams | None:
        return self.colour.draw(n, generator) if isinstance(self.colour, Colour) else None

    def boxes(self, uniform: Tensor, heights: Tensor, widths: Tensor, size: int) -> Tensor:
        """Crops (n, 4) int64 (top, left, height, width) of images of these sizes, each (n,) int64."""
        if self.scale is None:
            height = width = torch.full_like(heights, size)
        else:
            height, width = _resized_crop_sizes(uniform, heights, widths, self.scale)
        top = (uniform[:, -2] * (heights - height + 1)).long()
        left = (uniform[:, -1] * (widths - width + 1)).long()
        return torch.stack([top, left, height, width], dim=1)

    def apply(self, images: Tensor, params: ViewParams, size: int) -> Tensor:
        """Images (B, 3, S, S) uint8 -> (B, 3, size, size) float32, normalised, channels_last; a CPU is fastest on
        images that are channels_last as well."""
        crops = resized_crop(images, params.boxes, params.flip, size)
        if self.autoaugment:  # on the CPU: on a GPU it would synchronise many times an image
            pairs = zip(crops.cpu(), params.seed.tolist(), strict=True)
            crops = torch.stack([autoaugment(crop, seed) for crop, seed in pairs]).to(crops.device)
        return self.finish(crops, params.colour)

    def finish(self, crops: Tensor, colour: ColourParams | None) -> Tensor:
        """Colour and normalisation of crops: (B, 3, s, s) uint8 -> float32, channels_last."""
        if not isinstance(self.colour, Colour) or colour is None:
            return normalise(crops, self.mean, self.std)
        arrangement = arrange(colour)
        x = chosen(crops, arrangement.rows).to(torch.float32, memory_format=torch.contiguous_format)
        self.colour.apply_(x, colour, arrangement)
        return normalise(x, self.mean, self.std, arrangement.rows)


def chosen(images: Tensor, index: Tensor) -> Tensor:
    """images[index] in the same memory format, which a plain index_select does not keep."""
    if images.is_contiguous():
        return images.index_select(0, index)
    return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


def draw_geometry(n: int, generator: torch.Generator) -> Geometry:
    """Draw for n images, on the generator's device."""
    device = generator.device
    return Geometry(
        torch.rand(n, DRAWS, generator=generator, device=device, dtype=torch.float64),
        torch.rand(n, generator=generator, device=device) < FLIP_P,
        torch.randint(2**62, (n,), generator=generator, device=device),
    )


def autoaugment(image: Tensor, seed: int) -> Tensor:
    """AutoAugment (ImageNet policy) of an image, uint8 (3, S, S) or Pillow's; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not a GPU's, which torch.manual_seed would seed as well
        return _AUTOAUGMENT(image)


_AUTOAUGMENT = AutoAugment()


def _resized_crop_sizes(uniform: Tensor, heights: Tensor, widths: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Height and width (n,) of torchvision's RandomResizedCrop: the first of ten tries that fits, else as large a
    centred crop as the ratio allows (whose place is drawn here: it differs from the centre only in long images)."""
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

    Values near a half may be rounded otherwise than by Pillow: of noise, the worst case, up to one in twenty differ by
    one grey level, and fewer than one in 100,000 by two.
    """
    return (_resize_each if images.device.type == "cpu" else _resize_together)(images, boxes, flip, size)


def _resize_each(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Image by image with PyTorch's kernel for bytes, which only the CPU has, and which is the fastest there."""
    crops = []
    for i, ((top, left, height, width), flipped) in enumerate(zip(boxes.tolist(), flip.tolist(), strict=True)):
        # A slice of one image, not the image: else the kernel does not take channels_last, its fast case.
        crop = images[i : i + 1, :, top : top + height, left : left + width]
        crop = interpolate(crop, (size, size), mode="bilinear", antialias=True)
        crops.append(crop.flip(3) if flipped else crop)
    return torch.cat(crops)


def _resize_together(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """By matrix products with the weights of columns, then rows, rounded in between as Pillow does."""
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
    """(B, size, side): the weight of each pixel of a line in each output pixel of the crop start, length (B,)."""
    device = start.device
    scale = (length.double() / size)[:, None, None]
    centre = (torch.arange(size, device=device) + 0.5)[:, None] * scale
    place = torch.arange(side, device=device) - start[:, None]  # (B, side), within the crop
    reach = scale.clamp(min=1)  # Pillow widens the triangle when it shrinks, and keeps it when it enlarges
    weights = (1 - ((place[:, None] + 0.5) - centre).abs() / reach).clamp_(min=0)
    weights *= ((place >= 0) & (place < length[:, None]))[:, None]
    return (weights / weights.sum(2, keepdim=True)).float()
