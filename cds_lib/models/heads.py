"""Projection heads of contrastive deep supervision: stacks of separable convolutions, used in training only.

A head brings the map of an intermediate stage to the resolution and the width of the last stage, with one unit for each
stage that follows. The released heads have no linear layer and no MLP (`CIFAR/resnet.py`).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.models.backbones import initialise


class SepConvUnit(nn.Sequential):
    """Two separable 3x3 convolutions, the first of stride 2: `(B, in, H, W)` to `(B, out, ceil(H/2), ceil(W/2))`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *_separable_conv(in_channels, in_channels, stride=2),
            *_separable_conv(in_channels, out_channels, stride=1),
        )


class SepConvHead(nn.Module):
    """`units` separable-convolution units, then average pooling to one vector.

    Args:
        in_channels: channels of the stage's map.
        out_channels: length of the embedding.
        units: number of units, at least 1; each halves the resolution. The channels grow geometrically from
            `in_channels` to `out_channels`, which is the released doubling if the stages double.

    `forward` takes a map `(B, in_channels, H, W)` of any size and memory format and returns `(B, out_channels)`. The
    result is non-negative (it comes after a ReLU) and not normalised. The released CIFAR code pools a fixed 4x4 window,
    which is the same for its 32x32 images.

    Raises:
        UsageError: if `units` is below 1.
    """

    def __init__(self, in_channels: int, out_channels: int, units: int) -> None:
        super().__init__()
        if units < 1:
            raise UsageError(f"A projection head needs at least one unit, not {units}.")
        growth = (out_channels / in_channels) ** (1 / units)
        widths = [round(in_channels * growth**unit) for unit in range(units)] + [out_channels]
        self.units = nn.Sequential(*(SepConvUnit(widths[unit], widths[unit + 1]) for unit in range(units)))

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.units(x), 1).flatten(1)


def projection_heads(channels: Sequence[int], out_channels: int) -> nn.ModuleList:
    """Build the heads of all intermediate stages, initialised as released.

    Args:
        channels: channels of the intermediate stages' maps in network order, without the last stage (which has no
            head): `stage_taps(backbone).channels[:-1]`. Three of them get 3, 2 and 1 units.
        out_channels: length of every embedding: `stage_taps(backbone).pooled`.

    Returns:
        One `SepConvHead` for each entry of `channels`.
    """
    heads = nn.ModuleList(
        SepConvHead(stage_channels, out_channels, units=len(channels) - stage)
        for stage, stage_channels in enumerate(channels)
    )
    initialise(heads)
    return heads


class VariedHead(nn.Module):
    """A variant of the projection head, for the study of what a head needs.

    Args:
        in_channels: channels of the stage's map.
        out_channels: length of the embedding.
        units: separable-convolution units before the pooling, 0 or more.
        mlp: whether two fully connected layers with a ReLU in between follow the pooling, as in SimCLR and SupCon.

    `forward` takes a map `(B, in_channels, H, W)` and returns `(B, out_channels)`, not normalised. Without units and
    MLP the output is the pooled channels, padded with zeros, which change no scalar product.
    """

    def __init__(self, in_channels: int, out_channels: int, units: int, mlp: bool) -> None:
        super().__init__()
        self.units = SepConvHead(in_channels, out_channels, units) if units else None
        length = out_channels if units else in_channels
        layers = [nn.Linear(length, out_channels), nn.ReLU(), nn.Linear(out_channels, out_channels)] if mlp else []
        self.mlp, self.padding = nn.Sequential(*layers), 0 if mlp else out_channels - length

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.units is None else self.units(x)
        return F.pad(self.mlp(pooled), (0, self.padding))


def _separable_conv(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),  # safe: a batch norm's backward reads its input, not its output
    )
