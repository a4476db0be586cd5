"""Projection heads against their published sizes and an independent computation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cds_lib.errors import UsageError
from cds_lib.models import create_backbone, projection_heads, stage_taps
from cds_lib.models.heads import SepConvHead
from toys import check_initialisation


def build(name, width=1.0):
    backbone = create_backbone(name, 100, width=width)
    taps = stage_taps(backbone)
    return backbone, projection_heads(taps.channels[:-1], taps.pooled)


@pytest.mark.parametrize(
    ("name", "of_heads", "total"),
    [
        ("resnet18", 726_528, 11_946_660),
        ("resnet34", 726_528, 22_054_820),
        ("resnet50", 11_311_104, 35_016_356),
        ("resnet101", 11_311_104, 54_008_484),
    ],
)
def test_parameter_counts_alone_and_with_the_backbone(name, of_heads, total):
    with torch.device("meta"):
        backbone, heads = build(name)
    counts = [sum(p.numel() for p in part.parameters()) for part in (heads, backbone)]
    assert counts == [of_heads, total - of_heads]


def test_stacks_of_three_two_and_one_units_with_doubling_channels():
    heads = projection_heads([64, 128, 256], 512)
    widths = [[unit[0].in_channels for unit in head.units] + [head.units[-1][-3].out_channels] for head in heads]
    assert widths == [[64, 128, 256, 512], [128, 256, 512], [256, 512]]
    assert all(layer.bias is None for layer in heads.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("training", [True, False])
def test_one_head_computed_independently(training):
    torch.manual_seed(0)
    head = SepConvHead(4, 10, units=1).train(training)
    weights = [p.detach() for p in head.parameters()]
    assert [tuple(w.shape) for w in weights] == [
        (4, 1, 3, 3), (4, 4, 1, 1), (4,), (4,), (4, 1, 3, 3), (10, 4, 1, 1), (10,), (10,),
    ]  # fmt: skip
    x = torch.randn(3, 4, 7, 6)
    head_output = head(x).detach()

    def norm(y, scale, shift):
        if training:
            mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        else:
            mean, variance = 0.0, torch.ones(())
        return (y - mean) / torch.sqrt(variance + 1e-5) * scale[:, None, None] + shift[:, None, None]

    y = F.conv2d(x, weights[0], stride=2, padding=1, groups=4)
    assert y.shape[-2:] == (4, 3)
    y = norm(torch.einsum("oi,bihw->bohw", weights[1][:, :, 0, 0], y), weights[2], weights[3]).clamp(min=0)
    y = F.conv2d(y, weights[4], stride=1, padding=1, groups=4)
    y = norm(torch.einsum("oi,bihw->bohw", weights[5][:, :, 0, 0], y), weights[6], weights[7]).clamp(min=0)
    torch.testing.assert_close(head_output, y.mean((2, 3)))


def test_initialisation_is_the_released_one():
    torch.manual_seed(0)
    check_initialisation(projection_heads([64, 128, 256], 512))


def test_channels_grow_geometrically_where_stages_do_not_double():
    head = SepConvHead(24, 1024, units=3)  # channels of MobileNetV3's second stage and pooled vector
    widths = [unit[0].in_channels for unit in head.units]
    assert widths == [24, 84, 293] and head.units[-1][-3].out_channels == 1024
    assert [unit[0].in_channels for unit in SepConvHead(192, 192, units=3).units] == [192, 192, 192]  # a ViT
    with pytest.raises(UsageError, match="at least one unit"):
        SepConvHead(8, 16, units=0)
