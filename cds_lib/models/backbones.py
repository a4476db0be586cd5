"""The eleven backbones of the study and the stage features of any timm network.

Every backbone is a `timm` network: `create_backbone` only chooses the stem, the width and the released initialisation.
The other functions work for every timm network that reports its stages (`feature_info`, `forward_intermediates`), so
that the method is not tied to the eleven. A training step computes

    maps, features = forward_stages(backbone, images, stage_taps(backbone).indices)
    embedding, logits = pooled_and_logits(backbone, features)
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

with warnings.catch_warnings():  # in notebooks without widgets, which are not needed
    warnings.filterwarnings("ignore", message="IProgress not found")
    import timm
from timm.layers import make_divisible
from torch import Tensor, nn

from cds_lib.errors import UsageError

MODEL_NAMES: tuple[str, ...] = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "seresnet18",
    "seresnet50",
    "preactresnet18",
)
STEMS: tuple[str, ...] = ("cifar", "imagenet", "imagenet_no_max_pool")

# (kernel, stride, padding) of the stem's single convolution, and how many times larger its maps are than those of
# timm's own stem with max-pool.
_STEM_CONV = {"cifar": (3, 1, 1), "imagenet": (7, 2, 3), "imagenet_no_max_pool": (7, 2, 3)}
_STEM_GAIN = {"cifar": 4, "imagenet": 1, "imagenet_no_max_pool": 2}
_STAGE_CHANNELS = (64, 128, 256, 512)
_RESNEXT_GROUP_WIDTH = {"resnext50_32x4d": 4, "resnext101_32x8d": 8}
_RESNEXT_GROUPS = 32
# Networks of timm 1.0.31 that put more than the classifier between the pooled vector and the logits: a batch norm, a
# second classifier on the patch tokens that is averaged in, or the dropout that others have before the pooled vector.
_MORE_THAN_A_CLASSIFIER = ("EfficientVitMsra", "SHViT", "VOLO", "MultiScaleVit", "LCNetV2")


@dataclass(frozen=True)
class Taps:
    """The stages at which a network can be supervised: its last (up to) four, in network order.

    Attributes:
        indices: indices of the stages, as `forward_intermediates` counts them; strictly increasing.
        channels: number of channels of each stage's map.
        pooled: length of the pooled vector, the input of the network's classifier.
    """

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    pooled: int


def create_backbone(name: str, num_classes: int, stem: str = "cifar", width: float = 1.0) -> nn.Module:
    """Build one of the eleven backbones, or another of timm's ResNets, with the released initialisation.

    Args:
        name: one of `MODEL_NAMES`, or a timm ResNet with the plain 7x7 stem and without groups (such as `resnet26`).
        num_classes: outputs of the classifier, at least 1.
        stem: "cifar" (3x3 convolution of stride 1, no max-pool; for images of 16 to 64 pixels), "imagenet" (timm's own:
            7x7 of stride 2 and max-pool) or "imagenet_no_max_pool" (as the released ImageNet network, which builds the
            max-pool and never calls it, so that every map is twice as large).
        width: multiplier in (0, 1] for the channels of the stem and of every stage, for miniatures. Blocks, strides and
            shortcuts stay as they are. Channels are rounded to multiples of 8 and are at least 8. ResNeXt scales the
            number of groups and keeps the channels per group. The squeeze of the SE blocks keeps timm's own rule (a
            sixteenth of the channels, a multiple of 8, at least 8). At 1 the network is timm's, apart from the stem.

    Returns:
        A timm network: `forward` maps images `(B, 3, H, W)` to logits `(B, num_classes)`.

    Raises:
        UsageError: if the name or stem is unknown, the width is outside (0, 1], or there is no class.
    """
    if name not in MODEL_NAMES and not _is_plain_resnet(name):
        raise UsageError(
            f"There is no backbone named {name!r}; choose one of {', '.join(MODEL_NAMES)}, or a ResNet of timm with "
            "the plain stem and without groups."
        )
    if stem not in STEMS:
        raise UsageError(f"There is no stem named {stem!r}; choose one of {', '.join(STEMS)}.")
    if not 0 < width <= 1:
        raise UsageError(f"The width must be above 0 and at most 1, not {width}; 1 is the full network.")
    if num_classes < 1:
        raise UsageError(f"A backbone needs at least one class, not {num_classes}.")
    channels = tuple(make_divisible(c * width) for c in _STAGE_CHANNELS)
    if name == "preactresnet18":
        backbone = _preact_resnet(num_classes, stem, channels)
    else:
        backbone = _resnet(name, num_classes, stem, channels, groups=max(1, round(_RESNEXT_GROUPS * width)))
    for info in backbone.feature_info:  # timm assumes the strides of its own stem
        info["reduction"] = max(1, info["reduction"] // _STEM_GAIN[stem])
    initialise(backbone)
    return backbone


def _is_plain_resnet(name: str) -> bool:
    if not timm.is_model(name) or not timm.models.is_model_in_modules(name, ["resnet"]) or "next" in name:
        return False
    return timm.get_pretrained_cfg(name).first_conv == "conv1"  # a deep stem has conv1.0


def _resnet(name: str, num_classes: int, stem: str, channels: tuple[int, ...], groups: int) -> nn.Module:
    # timm's ResNet fixes its stem at 64 channels unless the stem is "deep", whose last convolution then has
    # 2 * stem_width channels. Asking for a deep stem therefore gives the stages the right number of input channels;
    # the stem's convolution itself is then replaced by the single one of these networks.
    arguments = {"channels": channels, "stem_type": "deep", "stem_width": channels[0] // 2}
    if name in _RESNEXT_GROUP_WIDTH:
        # timm: inner channels = floor(stage channels * base_width / 64) * cardinality; their product stays constant.
        base_width = _RESNEXT_GROUP_WIDTH[name] * _RESNEXT_GROUPS / groups
        arguments |= {"cardinality": groups, "base_width": base_width}
    backbone = timm.create_model(name, num_classes=num_classes, **arguments)
    backbone.conv1 = _stem_conv(stem, channels[0])
    if stem != "imagenet":
        backbone.maxpool = nn.Identity()
    return backbone


def _preact_resnet(num_classes: int, stem: str, channels: tuple[int, ...]) -> nn.Module:
    backbone = timm.create_model("resnetv2_18", num_classes=num_classes, channels=channels, stem_chs=channels[0])
    if stem == "cifar":
        backbone.stem.conv = _stem_conv(stem, channels[0])
    if stem != "imagenet":
        backbone.stem.pool = nn.Identity()
    return backbone


def _stem_conv(stem: str, channels: int) -> nn.Conv2d:
    kernel, stride, padding = _STEM_CONV[stem]
    return nn.Conv2d(3, channels, kernel, stride=stride, padding=padding, bias=False)


def initialise(module: nn.Module) -> None:
    """Initialise a backbone or a head in place, as released (`CIFAR/resnet.py`).

    Convolution weights are Kaiming normal (fan-out, gain of ReLU). Batch norms scale by 1 and shift by 0, including the
    last of a residual branch (no zero-init). Linear layers and convolution biases keep the framework's default. So does
    the classifier, even if timm would initialise it otherwise or builds it as a 1x1 convolution.
    """
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    for layer in module.modules():
        if layer is classifier:
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def reinitialise(module: nn.Module) -> None:
    """Initialise a copied stage afresh, in place: as `initialise`, with biases and running statistics at defaults."""
    for layer in module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    initialise(module)


def as_backbone(backbone: nn.Module | str, num_classes: int) -> nn.Module:
    """Return a timm network, which `timm.create_model` builds if only its name is given.

    Args:
        backbone: a name from `timm.list_models()`, built without pre-trained weights, or a network, returned as it is.
        num_classes: outputs of the classifier.

    Raises:
        UsageError: if timm lacks the name, `num_classes` is below 1 or not the network's, or the network is wrapped.
    """
    if num_classes < 1:
        raise UsageError(f"A classifier needs at least one class, not {num_classes}.")
    if isinstance(backbone, str):
        if not timm.is_model(backbone):
            raise UsageError(f"timm has no model {backbone!r}: see timm.list_models().")
        return timm.create_model(backbone, num_classes=num_classes)
    if hasattr(backbone, "module"):
        raise UsageError(f"Give the network itself, not {type(backbone).__name__} of it: wrap what is built around it.")
    found = getattr(backbone, "num_classes", num_classes)
    if found != num_classes:
        raise UsageError(
            f"The network has {found} classes, not {num_classes}: build it with num_classes={num_classes}, or call its "
            f"reset_classifier({num_classes})."
        )
    return backbone


def stage_taps(backbone: nn.Module) -> Taps:
    """Return the last (up to) four stages of any timm network.

    A network whose resolution never changes (ViT, MLP-Mixer) lists its blocks instead of stages. Its taps are four
    blocks at equal distances, ending with the last block.

    Raises:
        UsageError: if the network does not report stages.
    """
    info = getattr(backbone, "feature_info", None)
    if not info or not all(hasattr(backbone, name) for name in ("forward_intermediates", "head_hidden_size")):
        raise UsageError(
            f"{type(backbone).__name__} does not report stage features; use a timm network that has feature_info, "
            "forward_intermediates and head_hidden_size, or take the method's parts (docs/library.md)."
        )
    count = len(info)
    indices = tuple(range(max(0, count - 4), count))
    if count > 4 and len({stage["reduction"] for stage in info}) == 1:
        indices = tuple(count * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
    channels = tuple(info[index]["num_chs"] for index in indices)
    return Taps(indices, channels, cast(int, backbone.head_hidden_size))


def stage_module(backbone: Any, index: int) -> nn.Module:
    """Return a stage of a timm network, given its index in `feature_info`."""
    return backbone.get_submodule(backbone.feature_info[index]["module"])


def block_modules(backbone: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of the last (up to) four stages in network order: "2.1" is the first block of the second stage.

    A stage without blocks of its own (as in a ViT, whose stages are blocks) counts as one block.
    """
    found: dict[str, nn.Module] = {}
    for number, index in enumerate(stage_taps(backbone).indices, 1):
        stage = stage_module(backbone, index)
        blocks = getattr(stage, "blocks", stage)
        children = list(blocks.children()) if isinstance(blocks, nn.Sequential | nn.ModuleList) else [stage]
        found |= {f"{number}.{place}": block for place, block in enumerate(children, 1)}
    return found


def forward_stages(backbone: nn.Module, x: Tensor, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Run the network without its classifier.

    Args:
        backbone: any timm network.
        x: images `(B, 3, H, W)`.
        indices: indices of the wanted stages, from `stage_taps`.

    Returns:
        The maps of the stages, each `(B, C, H', W')` in network order, and the final features in the network's own
        layout, ready for `pooled` or `pooled_and_logits`.
    """
    features, maps = backbone.forward_intermediates(x, indices=list(indices), output_fmt="NCHW")
    return maps, features


def pooled(backbone: nn.Module, features: Tensor) -> Tensor:
    """Return the classifier's input, `(B, stage_taps(backbone).pooled)`, from the final features of `forward_stages`.

    It includes whatever the network does between its last stage and its classifier (pooling, normalisation, hidden
    layers, dropout).
    """
    return backbone.forward_head(features, pre_logits=True)


def pooled_and_logits(backbone: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return `pooled(backbone, features)` and the logits `(B, num_classes)`, from the same vector where possible."""
    vector = pooled(backbone, features)
    classifier = backbone.get_classifier()
    if type(backbone).__name__ not in _MORE_THAN_A_CLASSIFIER:
        if isinstance(classifier, nn.Linear):
            return vector, classifier(vector)
        if isinstance(classifier, nn.Conv2d):  # timm's pre-activation networks classify by a 1x1 convolution
            return vector, classifier(vector[:, :, None, None]).flatten(1)
    # Only the network itself can apply a composite classifier (several heads, hidden layers); it pools once more.
    return vector, backbone.forward_head(features)
