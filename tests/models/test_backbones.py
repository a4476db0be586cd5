"""Backbones equal timm, torchvision and the published counts; stage features on eight families of networks."""

import functools
import math
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from cds_lib.errors import UsageError
from cds_lib.models import create_backbone, forward_stages, initialise, pooled, pooled_and_logits, stage_taps
from cds_lib.models.backbones import MODEL_NAMES, STEMS
from toys import check_initialisation

# Trainable parameters: (CIFAR stem and 100 classes, ImageNet stem and 1000 classes).
PARAMETERS = {
    "resnet18": (11_220_132, 11_689_512),
    "resnet34": (21_328_292, 21_797_672),
    "resnet50": (23_705_252, 25_557_032),
    "resnet101": (42_697_380, 44_549_160),
    "resnext50_32x4d": (23_177_124, 25_028_904),
    "resnext101_32x8d": (86_939_556, 88_791_336),
    "wide_resnet50_2": (67_031_460, 68_883_240),
    "wide_resnet101_2": (125_034_916, 126_886_696),
    "seresnet18": (11_310_244, 11_779_624),
    "seresnet50": (26_236_244, 28_088_024),
    "preactresnet18": (11_218_340, 11_687_720),
}
# The same networks in torchvision, an independent implementation with the same parameter names.
TORCHVISION = [name for name in MODEL_NAMES if re.match("resnet|resnext|wide", name)]
BLOCKS = ("resnet18", "resnext50_32x4d", "seresnet50", "preactresnet18")  # one network of each kind
OTHER_TIMM = {
    "resnetv2_18": (1, 2, 3, 4),
    "convnext_atto": (0, 1, 2, 3),
    "vit_tiny_patch16_224": (2, 5, 8, 11),
    "mobilenetv3_small_100": (1, 2, 3, 4),
    "efficientnet_b0": (1, 2, 3, 4),
    "regnetx_002": (1, 2, 3, 4),
    "swin_tiny_patch4_window7_224": (0, 1, 2, 3),
    "levit_128s": (0, 1, 2),
    "efficientvit_m0": (0, 1, 2),
}


@functools.cache
def on_meta(name, stem="cifar", width=1.0):
    """Return a network on the meta device, shared by the tests, none of which changes it."""
    with torch.device("meta"):
        return create_backbone(name, 100 if stem == "cifar" else 1000, stem=stem, width=width)


def randomise_batch_norms(module):
    """Randomise running statistics and affine parameters, so that wrong wiring shows."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_parameter_counts(name):
    counts = [sum(p.numel() for p in on_meta(name, stem).parameters()) for stem in ("cifar", "imagenet")]
    assert tuple(counts) == PARAMETERS[name]


def test_the_documented_counts_are_the_tested_ones():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d,]+) \| ([\d,]+) \|", page, re.MULTILINE)
    assert {name: tuple(int(n.replace(",", "")) for n in counts) for name, *counts in rows} == PARAMETERS


@pytest.mark.parametrize("name", [*MODEL_NAMES, "resnet26", "seresnet34"])
def test_full_width_is_exactly_timms_network(name):
    with torch.device("meta"):
        reference = timm.create_model("resnetv2_18" if name == "preactresnet18" else name)
    ours = on_meta(name, "imagenet")
    assert str(ours) == str(reference)  # all layers with strides, groups and activations
    assert ours.feature_info == reference.feature_info
    cifar = on_meta(name).state_dict()
    classifier = {"head.fc.weight", "head.fc.bias"} if name == "preactresnet18" else {"fc.weight", "fc.bias"}
    stem = {"stem.conv.weight"} if name == "preactresnet18" else {"conv1.weight"}
    changed = {key for key, value in reference.state_dict().items() if cifar[key].shape != value.shape}
    assert changed == stem | classifier


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_every_stage_and_the_logits_equal_torchvisions(name, stem):
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(num_classes=10)
    if stem == "cifar":
        reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        reference.maxpool = nn.Identity()
    randomise_batch_norms(reference)
    reference.eval()
    backbone = create_backbone(name, 10, stem=stem).eval()
    backbone.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, 32, 32) if stem == "imagenet" else torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        maps, features = forward_stages(backbone, x, stage_taps(backbone).indices)
        vector, logits = pooled_and_logits(backbone, features)
        expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        for stage, ours in enumerate(maps, start=1):
            expected = getattr(reference, f"layer{stage}")(expected)
            torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(vector, expected.mean((2, 3)))
        torch.testing.assert_close(logits, reference(x))


@pytest.mark.parametrize(
    ("name", "stem"), [(name, stem) for stem in STEMS for name in (MODEL_NAMES if stem == "cifar" else BLOCKS)]
)
def test_stages_have_their_sizes_and_train(name, stem):
    backbone = create_backbone(name, 7, stem=stem, width=0.125)
    taps = stage_taps(backbone)
    maps, features = forward_stages(backbone, torch.randn(2, 3, 32, 32), taps.indices)
    vector, logits = pooled_and_logits(backbone, features)
    assert [m.shape[1] for m in maps] == list(taps.channels)
    first = {"cifar": 32, "imagenet": 8, "imagenet_no_max_pool": 16}[stem]
    assert [m.shape[-1] for m in maps] == [first, first // 2, first // 4, first // 8]
    assert [32 // m.shape[-1] for m in maps] == [info["reduction"] for info in backbone.feature_info[1:]]
    assert vector.shape == (2, taps.pooled) and logits.shape == (2, 7)
    # The maps enter the loss too, so an in-place operation on one of them would fail here.
    (logits.square().mean() + sum(m.square().mean() for m in maps)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "width"), [*((name, 0.125) for name in MODEL_NAMES), *((name, 0.0625) for name in BLOCKS)]
)
def test_width_scales_channels_and_nothing_else(name, width):
    full, small = on_meta(name), create_backbone(name, 100, width=width)
    layers, small_layers = dict(full.named_modules()), dict(small.named_modules())
    assert list(small_layers) == list(layers)  # the same blocks and shortcuts as in the full network
    for key, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            other = small_layers[key]
            assert (other.kernel_size, other.stride, other.padding) == (layer.kernel_size, layer.stride, layer.padding)
            if layer.groups > 1:  # the same number of channels per group
                assert other.groups == 32 * width and other.in_channels == max(16, layer.in_channels * width)
    stages = [max(8, int(c * width)) for c in (64, 128, 256, 512)]
    expansion = 1 if name.endswith(("net18", "net34")) else 4
    assert stage_taps(small).channels == tuple(c * expansion for c in stages)
    stem = small.stem.conv if name == "preactresnet18" else small.conv1
    assert stem.weight.shape == (stages[0], 3, 3, 3) and stem.bias is None


@pytest.mark.parametrize("name", ["resnet50", "seresnet18", "preactresnet18"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_miniatures_of_odd_width_run(name, stem):
    backbone = create_backbone(name, 5, stem=stem, width=0.3).eval()
    assert backbone(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    assert stage_taps(backbone).channels[-1] in (152, 608)


def test_initialisation_is_the_released_one():
    """This includes the last norm of each residual branch, which timm sets to 0."""
    torch.manual_seed(0)
    check_initialisation(create_backbone("resnet50", 100, width=0.5))


@pytest.mark.parametrize("name", ["resnet18", "preactresnet18"])
def test_the_classifier_keeps_the_frameworks_default(name):
    torch.manual_seed(0)
    classifier = create_backbone(name, 100, width=0.5).get_classifier()
    bound = 1 / math.sqrt(256)  # uniform between plus and minus 1 / sqrt(inputs), weight and bias
    for tensor in (classifier.weight, classifier.bias):
        assert 0.9 * bound < tensor.abs().max().item() <= bound
    assert classifier.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_initialise_leaves_linear_layers_and_biases_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    initialise(module)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"0.weight"}


@pytest.mark.parametrize("name", OTHER_TIMM)
def test_stage_features_of_any_timm_network(name):
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=7).eval()
    randomise_batch_norms(backbone)  # EfficientViT has one between the pooled vector and the classifier
    nn.init.normal_(_plain(backbone.get_classifier()).weight)  # some networks start with tiny logits
    size = 224 if "224" in name or name.startswith(("levit", "efficientvit")) else 64
    x = torch.randn(2, 3, size, size)
    taps = stage_taps(backbone)
    assert taps.indices == OTHER_TIMM[name]
    with torch.no_grad():
        maps, features = forward_stages(backbone, x, taps.indices)
        vector, logits = pooled_and_logits(backbone, features)
        assert torch.equal(logits, backbone(x))
    assert tuple(m.shape[1] for m in maps) == taps.channels and all(m.ndim == 4 for m in maps)
    sizes = [m.shape[-1] for m in maps]
    assert sizes == sorted(sizes, reverse=True) and vector.shape == (2, taps.pooled)
    assert torch.equal(vector, pooled(backbone, features))


def _plain(classifier):
    classifier = classifier[0] if isinstance(classifier, tuple) else classifier
    return getattr(classifier, "linear", classifier)


@pytest.mark.skipif(not timm.is_model("lcnetv2_small"), reason="this timm has no such network yet")
def test_dropout_of_networks_that_have_it_before_their_classifier():
    torch.manual_seed(0)
    backbone = timm.create_model("lcnetv2_small", num_classes=7, drop_rate=0.5).train()
    _, features = forward_stages(backbone, torch.randn(2, 3, 32, 32), [0])
    logits = [pooled_and_logits(backbone, features)[1] for _ in range(2)]
    assert not torch.equal(*logits)


def test_dropout_acts_once_on_the_vector_that_is_classified():
    torch.manual_seed(0)
    backbone = timm.create_model("resnet18", num_classes=7, drop_rate=0.5).train()
    features = torch.rand(2, 512, 2, 2) + 0.1
    vector, logits = pooled_and_logits(backbone, features)
    assert 0.3 < vector.eq(0).float().mean() < 0.7
    torch.testing.assert_close(logits, backbone.fc(vector))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet26d"}, "resnet26d.*choose one of resnet18"),
        ({"stem": "tiny"}, "tiny.*cifar, imagenet"),
        *(({"width": width}, f"width.*not {width}") for width in (0.0, 1.5, math.nan)),
        ({"num_classes": 0}, "at least one class"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        create_backbone(**{"name": "resnet18", "num_classes": 10, **arguments})
