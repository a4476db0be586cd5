"""Batched colour jitter, greyscale, blur and solarisation, drawn per sample, with the pixels of Pillow and torchvision.

After every operation images hold whole numbers from 0 to 255, as Pillow's do, in float32 where arithmetic needs it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of ColorJitter's operations
# A CPU shifts the hue of this many pixels at a time, so that their planes stay in its cache.
_CACHED = 2**18


class ColourParams(NamedTuple):
    """Colour parameters of n images. jitter, grey: (n,) bool, whether they are applied. order: (n, 4) int64, the jitter
    operations in order. factors: (n, 4) float32, column k for operation k. sigma: (n,) float32, of the blur in pixels,
    0 for none. solarised: (n,) bool. The last two are None for a view that never blurs or solarises.

    `factors` is on the device of the images, the others are on the CPU, which arranges a batch by them. Reading them
    from a GPU would make the CPU wait for it in every step."""

    jitter: Tensor
    order: Tensor
    factors: Tensor
    grey: Tensor
    sigma: Tensor | None = None
    solarised: Tensor | None = None


class Arrangement(NamedTuple):
    """The order in which `Colour.apply_` processes a batch. rows: the images in this order. order: the jitter
    operations of each. hue_position: the position of the hue shift among them. grey, blurred, solarised: places of the
    images to turn grey, blur, solarise. sigma: deviations of the blurred images. ends: cumulative sizes of the groups.

    The groups are "hue last, hue third, second, first, not jittered". So for each j, the images whose blend j comes
    before the hue shift are a leading slice, and those whose blend j comes after it are the slice behind.
    """

    rows: Tensor
    order: Tensor
    hue_position: Tensor
    grey: Tensor
    blurred: Tensor | None
    sigma: Tensor | None
    solarised: Tensor | None
    ends: list[int]


@dataclass(frozen=True)
class Colour:
    """The colour operations of a view: jitter, greyscale, blur and solarisation, in this order. The defaults are the
    released code's. Each operation equals torchvision's with the same parameters.

    Attributes:
        strength: of brightness, contrast, saturation (at most 1; factors 1 +- strength) and hue (at most 0.5; a shift
            by 0 +- strength of the colour circle). Each image has these operations in its own order.
        jitter_p, grey_p, blur_p, solarise_p: probability that an image is jittered, turned grey, blurred, solarised.
        blur_sigma: least and largest deviation of the Gaussian, in pixels; its kernel reaches 1/20 of the view's side.
        solarise_threshold: levels from this one on are inverted.

    Raises:
        ValueError: if a probability is outside 0 to 1, or a strength or sigma is outside its range.
    """

    strength: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise_p: float = 0.0
    solarise_threshold: int = 128

    def __post_init__(self):
        if not all(0 <= share <= 1 for share in (self.jitter_p, self.grey_p, self.blur_p, self.solarise_p)):
            raise ValueError(f"jitter_p, grey_p, blur_p and solarise_p must lie in 0 to 1, not as in {self}.")
        if not all(0 <= value <= most for value, most in zip(self.strength, (1, 1, 1, 0.5), strict=True)):
            raise ValueError(f"strength must be 0 to 1, and 0 to 0.5 for the hue, not {self.strength}.")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur_sigma must be (smallest, largest), both above 0, not {self.blur_sigma}.")

    def draw(self, n: int, generator: torch.Generator) -> ColourParams:
        """Draw the parameters of n images with a generator on their device or the CPU. Blur and solarisation do not
        change the draws of jitter and greyscale."""
        device = generator.device
        uniform = torch.rand(n, 10, generator=generator, device=device)
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
        factors = centre + torch.tensor(self.strength, device=device) * (2 * uniform[:, 4:8] - 1)
        jitter, order, grey = uniform[:, 8] < self.jitter_p, uniform[:, :4].argsort(1), uniform[:, 9] < self.grey_p
        sigma = solarised = None
        if self.blur_p:
            chosen, between = torch.rand(2, n, generator=generator, device=device)
            low, high = self.blur_sigma
            sigma = ((low + (high - low) * between) * (chosen < self.blur_p)).cpu()
        if self.solarise_p:
            solarised = (torch.rand(n, generator=generator, device=device) < self.solarise_p).cpu()
        return ColourParams(jitter.cpu(), order.cpu(), factors, grey.cpu(), sigma, solarised)

    def apply_(self, x: Tensor, colour: ColourParams, arrangement: Arrangement) -> None:
        """Apply all operations in place to x (B, 3, S, S), float32 whole numbers in the order of `arrangement.rows`."""
        _jitter(x.flatten(2), colour.factors[arrangement.rows], arrangement, turn=self.strength[HUE] > 0)
        grey = arrangement.grey
        x[grey] = _luma(x.index_select(0, grey))[:, None]
        if arrangement.blurred is not None and arrangement.sigma is not None:
            x[arrangement.blurred] = _blurred(x.index_select(0, arrangement.blurred), arrangement.sigma)
        if arrangement.solarised is not None:
            part = x.index_select(0, arrangement.solarised)
            x[arrangement.solarised] = torch.where(part >= self.solarise_threshold, 255 - part, part)


def arrange(colour: ColourParams) -> Arrangement:
    """Return the order for a batch with these parameters; all but `ends` is on the device of the images."""
    hue_position = (colour.order == HUE).int().argmax(1)
    group = torch.where(colour.jitter, 3 - hue_position, 4)
    rows = group.argsort()
    grey = colour.grey[rows].nonzero().squeeze(1)
    parts: list[Any] = [rows, colour.order[rows], hue_position[rows], grey, None, None, None]
    if colour.sigma is not None:
        parts[4] = colour.sigma[rows].nonzero().squeeze(1)
        parts[5] = colour.sigma[rows][parts[4]]
    if colour.solarised is not None:
        parts[6] = colour.solarised[rows].nonzero().squeeze(1)
    ends = torch.bincount(group, minlength=5).cumsum(0).tolist()
    device = colour.factors.device
    parts = [None if part is None else part.to(device, non_blocking=True) for part in parts]
    return Arrangement._make([*parts, ends])


def _jitter(x: Tensor, factors: Tensor, arrangement: Arrangement, turn: bool) -> None:
    """Jitter x (B, 3, P) float32 in place. x and factors (B, 4) are sorted as in `Arrangement`. turn: shift the hue."""
    order, hue_position, ends = arrangement.order, arrangement.hue_position, arrangement.ends
    jittered = ends[3]
    j = torch.arange(3, device=x.device)
    blends = order.gather(1, j + (j >= hue_position[:, None]))  # (B, 3): the order without the hue shift
    strengths = factors.gather(1, blends)
    for blend, cut in enumerate((ends[2], ends[1], ends[0])):
        _blend_(x[:cut], blends[:cut, blend], strengths[:cut, blend])
    together = max(1, _CACHED // x.shape[2]) if x.device.type == "cpu" else len(x)
    for part, fraction in zip(x[:jittered].split(together), factors[:jittered, HUE].split(together), strict=True):
        if turn:  # even a shift by 0 rounds to 8-bit HSV
            _shift_hue_(part, fraction)
    for blend, cut in enumerate((ends[2], ends[1], ends[0])):
        _blend_(x[cut:jittered], blends[cut:jittered, blend], strengths[cut:jittered, blend])


def _blend_(x: Tensor, operation: Tensor, factor: Tensor) -> None:
    """Change brightness, contrast or saturation, as `operation` (B,) says, by blending with a reference.

    The result is reference + factor (x - reference), cut to [0, 255] and rounded down, as in Pillow's Image.blend. The
    reference is black, the rounded mean of the image's luma, or the luma. x (B, 3, P) float32 is changed in place.
    """
    luma = _luma(x)
    mean = luma.mean(1, keepdim=True).add_(0.5).floor_()
    saturation, contrast = ((operation[:, None] == kind).float() for kind in (SATURATION, CONTRAST))
    reference = torch.addcmul(mean.mul_(contrast), luma, saturation)[:, None]
    x.sub_(reference).mul_(factor[:, None, None]).add_(reference).clamp_(0, 255).floor_()


def _luma(x: Tensor) -> Tensor:
    """Return luma (B, ...) of (B, 3, ...): ITU-R 601-2 in units of 1/65536 as Pillow; sums < 2^24, exact in float32."""
    red, green, blue = x.unbind(1)
    half = x.new_full((), 0.5)
    return half.add(red, alpha=19595 / 65536).add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536).floor_()


def _blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur x (B, 3, S, S) float32 with a Gaussian of deviation sigma (B,) and reflected borders, as torchvision does;
    returns whole numbers."""
    if not len(x):
        return x
    batch, channels, side, _ = x.shape
    reach = max(1, side // 20)
    distance = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-0.5 * (distance / sigma[:, None]).square())
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # one per plane
    planes = F.pad(x.reshape(1, batch * channels, side, side), (reach,) * 4, mode="reflect")
    with torch.autocast(x.device.type, enabled=False):  # half precision cannot hold products of bytes
        for kernel in (weights[:, :, None], weights[..., None]):
            planes = F.conv2d(planes, kernel, groups=batch * channels)
    return planes.reshape(x.shape).round_()


def _shift_hue_(x: Tensor, fraction: Tensor) -> None:
    """Shift the hue by a fraction (B,) of the circle, in 8-bit HSV as Pillow does; x (B, 3, P) float32, in place.

    The result equals Pillow's for all 2^24 colours.
    """
    red, green, blue = x.unbind(1)
    # All intermediate results go into six planes, because new tensors would cost as much as the arithmetic.
    value, chroma, not_red, green_leads, difference, other = x.new_empty(6, len(x), x.shape[2])
    torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
    torch.minimum(torch.minimum(red, green, out=chroma), blue, out=chroma)
    torch.sub(value, chroma, out=chroma)
    # Which channel leads, as 0.0 or 1.0: plain arithmetic is ten times faster here than torch.where.
    torch.ne(value, red, out=not_red)
    torch.eq(value, green, out=green_leads).mul_(not_red)
    # difference = green - blue, blue - red or red - green; side = its sign, 1 for 0
    torch.sub(green, blue, out=difference)
    difference.addcmul_(not_red, torch.add(red, blue, out=other).sub_(green, alpha=2))
    difference.addcmul_(green_leads, torch.add(green, blue, out=other).sub_(red, alpha=2))
    side = torch.add(difference, 0.5, out=other).sign_()
    # hue = corner + difference / chroma with corner 0, 2 or 4, in the order of operations that rounds as Pillow's does
    hue = torch.add(side, not_red, alpha=4, out=not_red).sub_(green_leads, alpha=2)
    ratio = torch.sub(chroma, difference.abs_(), out=difference).div_(torch.clamp(chroma, min=1, out=green_leads))
    # Divide by a tensor: for a plain number a GPU multiplies by 1/6, which rounds differently.
    hue.addcmul_(side, ratio, value=-1).div_(x.new_full((), 6.0))
    hue.sub_(torch.floor(hue, out=other)).mul_(255).floor_()
    # torchvision truncates the shift to a whole number of 255ths and lets the 8-bit hue wrap around at 256.
    hue.add_((fraction.double() * 255).trunc().float()[:, None])
    hue.sub_(torch.mul(hue, 1 / 256, out=other).floor_(), alpha=256)
    saturation = chroma.div_(torch.clamp(value, min=1, out=other)).mul_(255).floor_()

    # Channel = value (1 - saturation / 255 * weight). As a function of hue, weight is a trapezium, 42.5 high (a sixth).
    scale = saturation.mul_(value).mul_(1 / (255 * 42.5))
    red_weight = torch.rsub(torch.sub(hue, 127.5, out=other).abs_(), 85).clamp_(0, 42.5)
    torch.sub(value, red_weight.mul_(scale).round_(), out=red)
    for channel, centre in ((green, 85), (blue, 170)):
        weight = torch.sub(hue, centre, out=other).abs_().sub_(42.5).clamp_(0, 42.5)
        torch.sub(value, weight.mul_(scale).round_(), out=channel)
