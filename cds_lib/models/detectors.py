"""The two detectors of the study: torchvision's Faster R-CNN and RetinaNet, with an FPN on one of our ResNets."""

from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import freeze_batch_norm_2d
from timm.models.resnet import ResNet
from torch import nn
from torch.utils._pytree import tree_map
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from cds_lib.errors import UsageError
from cds_lib.models.backbones import stage_taps

DETECTOR_NAMES = ("faster_rcnn", "retinanet")
LONG_SIDE = 1333 / 800  # maximum long side of an image, relative to `min_size`
_CHANNELS = 256  # channels of the FPN in the 1x schedule
_POOLED = 7  # side of the maps that RoIAlign returns
_FROZEN = ("conv1", "bn1", "layer1")  # stem and first stage


def create_detector(
    name: str,
    backbone: nn.Module,
    num_classes: int,
    *,
    channels: int = _CHANNELS,
    box_features: int = 1024,
    min_size: int = 800,
) -> nn.Module:
    """Build a detector around a trained backbone, with the settings of the 1x schedule.

    The backbone's stem and first stage are frozen, all its batch norms are fixed to their statistics, and its
    classifier is dropped. Anchors have one size per level (32 to 512 pixels at `min_size` 800, smaller in proportion)
    and three ratios; RetinaNet has three sizes per level. Faster R-CNN samples 256 anchors and 512 boxes per image, and
    pools a box from the map (P2 to P5) that fits its size.

    Args:
        name: "faster_rcnn" or "retinanet".
        backbone: a timm ResNet from `create_backbone`.
        num_classes: number of classes without the background.
        channels, box_features: widths of the FPN and of Faster R-CNN's two hidden layers; smaller in miniatures.
        min_size: short side to which images are resized, in pixels; the long side is at most 1333 / 800 of it.

    Returns:
        A torchvision detector, which maps images and targets to named losses in training mode, and images to detections
        in eval mode. Images are a list of (3, H, W) in 0..1, labels count from 1.

    Raises:
        UsageError: if the name is unknown or the backbone is not a ResNet.
    """
    if name not in DETECTOR_NAMES:
        raise UsageError(f"There is no detector named {name!r}; choose one of {', '.join(DETECTOR_NAMES)}.")
    if not isinstance(backbone, ResNet):
        raise UsageError(f"Detectors are built on a timm ResNet, not on {type(backbone).__name__}.")
    widths = stage_taps(backbone).channels
    freeze_batch_norm_2d(backbone)
    for part in _FROZEN:
        getattr(backbone, part).requires_grad_(False)
    common = {
        "min_size": min_size,
        "max_size": round(min_size * LONG_SIDE),
        "image_mean": list(IMAGENET_DEFAULT_MEAN),
        "image_std": list(IMAGENET_DEFAULT_STD),
    }
    scale = min_size / 800
    ratios = (0.5, 1.0, 2.0)
    if name == "faster_rcnn":
        layers = {f"layer{stage}": str(stage) for stage in (1, 2, 3, 4)}
        body = BackboneWithFPN(backbone, layers, list(widths), channels, LastLevelMaxPool())
        sizes: tuple[tuple[float, ...], ...] = tuple((size * scale,) for size in (32, 64, 128, 256, 512))
        detector = FasterRCNN(
            body,
            num_classes=None,
            rpn_anchor_generator=AnchorGenerator(sizes, (ratios,) * 5),
            # The size of a box, relative to 224 pixels at full scale, decides which map it is pooled from.
            box_roi_pool=MultiScaleRoIAlign(list(layers.values()), _POOLED, 2, canonical_scale=round(224 * scale)),
            box_head=TwoMLPHead(channels * _POOLED**2, box_features),
            box_predictor=_Predictor(box_features, num_classes + 1),
            **common,
        )
        _keep_full_precision(detector.rpn.anchor_generator, detector.rpn.head)
        return detector
    layers = {f"layer{stage}": str(stage) for stage in (2, 3, 4)}
    body = BackboneWithFPN(backbone, layers, list(widths[1:]), channels, LastLevelP6P7(widths[3], channels))
    sizes = tuple(tuple(size * scale * 2 ** (third / 3) for third in range(3)) for size in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, (ratios,) * 5)
    # torchvision returns 300 boxes per image by default; the 1x schedule is tested with 100.
    detector = RetinaNet(body, num_classes + 1, anchor_generator=anchors, detections_per_img=100, **common)
    _widen_initialisation(detector.head, channels)
    _keep_full_precision(anchors, detector.head)
    return detector


def _keep_full_precision(anchors: nn.Module, head: nn.Module) -> None:
    """Keep anchors and losses in float32. Under autocast torchvision computes anchors, boxes and focal loss in the
    maps' precision: bfloat16 rounds coordinates above 1,024 to multiples of 8, and gradients of easy boxes to 0."""
    anchors.register_forward_pre_hook(_shapes)
    head.register_forward_hook(_head_as_float32)


def _shapes(module: nn.Module, inputs: tuple) -> tuple:
    """Replace the maps by float32 maps without memory: the generator reads only their shapes, device and precision."""
    images, maps = inputs
    return images, [one.new_empty((), dtype=torch.float32).expand(one.shape) for one in maps]


def _head_as_float32(module: nn.Module, inputs: tuple, output: Any) -> Any:
    return tree_map(torch.Tensor.float, output)


class _Predictor(nn.Module):
    """Predict class scores and box offsets (one box per class) from Faster R-CNN's pooled features."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.scores = nn.Linear(features, classes)
        self.boxes = nn.Linear(features, 4 * classes)

    def forward(self, x):  # noqa: ANN001, ANN201 (called by torchvision)
        return self.scores(x), self.boxes(x)


def _widen_initialisation(head: nn.Module, channels: int) -> None:
    """Keep the scale of the activations in a narrow RetinaNet head, which has no normalisation.

    The head is initialised with a standard deviation of 0.01, for 256 channels. With 64 channels its signal would
    vanish and it would not learn. With 256 channels this changes nothing.
    """
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= (_CHANNELS / channels) ** 0.5
