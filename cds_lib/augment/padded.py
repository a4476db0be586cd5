"""Batched views of small images, drawn per sample: a crop of the padded image, a flip, then Cutout or colour.

Source: `CIFAR/train.py` of the released code. View 1 (classified) is padded with grey and has Cutout. View 2
(contrasted) is padded with black and has colour. Parameters are drawn first and applied separately. Pillow and
torchvision give the same pixels for the same parameters.

After every operation images hold whole numbers from 0 to 255, as Pillow's do, in float32 where arithmetic needs it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cds_lib.augment.colour import Colour, ColourParams, arrange
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, normalise

FLIP_P = 0.5


class PaddedParams(NamedTuple):
    """The draws for a view of n images: top, left (n,) int64, the crop's place in the padded image; flip (n,) bool;
    hole (n, 2) int64, the centre of Cutout, or None; colour, or None."""

    top: Tensor
    left: Tensor
    flip: Tensor
    hole: Tensor | None = None
    colour: ColourParams | None = None


@dataclass(frozen=True)
class PaddedView:
    """One view of small images.

    Attributes:
        fill: level of the padding, 0 to 255.
        padding: pixels on every side; None: an eighth of the image's side.
        cutout: whether to black out a square of half the view's side, centred anywhere in the view.
        colour: a `Colour`; True: as released; False: none.
        mean, std: statistics that the view is normalised with, for channels in 0..1; CIFAR's by default, ImageNet's in
            `View`. Give both views of a pair the same.
    """

    fill: int = 0
    padding: int | None = None
    cutout: bool = False
    colour: Colour | bool = False
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD

    def __post_init__(self):
        if self.colour is True:
            object.__setattr__(self, "colour", Colour())

    def draw(self, n: int, side: int, size: int, generator: torch.Generator) -> PaddedParams:
        """Draw for n images of side `side` and views of side `size`, on the generator's device; ValueError if no crop
        fits. Cutout and colour do not change the draws of crop and flip."""
        places, device = side + 2 * self._padding(side) - size + 1, generator.device
        if places < 1:
            raise ValueError(f"A crop of {size} cannot be cut from images of {side}, padded by {self._padding(side)}.")
        top, left = torch.randint(places, (2, n), generator=generator, device=device)
        flip = torch.rand(n, generator=generator, device=device) < FLIP_P
        hole = torch.randint(size, (n, 2), generator=generator, device=device) if self.cutout else None
        colour = self.colour.draw(n, generator) if isinstance(self.colour, Colour) else None
        return PaddedParams(top, left, flip, hole, colour)

    def apply(self, images: Tensor, params: PaddedParams, size: int) -> Tensor:
        """Turn images (B, 3, S, S) uint8 into views (B, 3, size, size) float32, normalised, channels_last. Parameters
        must be on the same device."""
        if not isinstance(self.colour, Colour) or params.colour is None:
            rows = torch.arange(len(images), device=images.device)
            x = self._crop_flip(images, params, size, rows)
            if params.hole is not None:
                x.mul_(_outside_hole(params.hole, size))
            return normalise(x, self.mean, self.std)
        arrangement = arrange(params.colour)
        x = self._crop_flip(images, params, size, arrangement.rows).float()
        self.colour.apply_(x, params.colour, arrangement)
        if params.hole is not None:
            x.mul_(_outside_hole(params.hole, size)[arrangement.rows])
        return normalise(x, self.mean, self.std, arrangement.rows)

    def _padding(self, side: int) -> int:
        return side // 8 if self.padding is None else self.padding

    def _crop_flip(self, images: Tensor, params: PaddedParams, size: int, rows: Tensor) -> Tensor:
        """Pad all images, crop each at (top, left), flip some; return the images `rows`, in that order (uint8)."""
        batch, channels, side, width = images.shape
        if images.dtype != torch.uint8 or channels != 3 or side != width:
            raise ValueError(f"expected square uint8 images (B, 3, S, S), got {images.dtype} {tuple(images.shape)}.")
        padding = self._padding(side)
        wide = side + 2 * padding
        padded = images.new_full((batch, channels, wide, wide), self.fill)
        padded[..., padding : padding + side, padding : padding + side] = images
        crops = _windows(padded, (rows * channels * wide + params.top[rows]) * wide + params.left[rows], size)
        position = torch.arange(batch, device=images.device)
        return torch.cat([crops, crops.flip(3)]).index_select(0, position + batch * params.flip[rows])


def _outside_hole(centre: Tensor, size: int) -> Tensor:
    """Return (B, 1, S, S) uint8: 0 in a square of side 2 (S // 4) around centre (B, 2), cut at the borders, else 1."""
    half = size // 2 // 2
    canvas = torch.ones(1, 1, 2 * size, 2 * size, dtype=torch.uint8, device=centre.device)
    canvas[..., size - half : size + half, size - half : size + half] = 0
    return _windows(canvas, (size - centre[:, 0]) * 2 * size + size - centre[:, 1], size)


def _windows(canvas: Tensor, start: Tensor, size: int) -> Tensor:
    """Return square crops (n, C, size, size) of contiguous images (B, C, L, L), given each crop's first element (n,).

    Entry i of the strided view is the crop that starts at element i, so cropping is selecting entries. This copies
    whole rows of pixels, which is four times as fast as gathering single ones.
    """
    _, channels, side, _ = canvas.shape
    reach = (channels - 1) * side * side + (size - 1) * (side + 1)
    strides = (1, side * side, side, 1)
    return canvas.as_strided((canvas.numel() - reach, channels, size, size), strides).index_select(0, start)
