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
LONG_SIDE = 1333 / 800  # of the longest side of an image, to the shortest
_CHANNELS = 256  # of the FPN in the 1x schedule
_POOLED = 7  # side of the maps that RoIAlign gives
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

    The backbone's stem and first stage are frozen, all its batch norms are fixed to their statistics, its classifier is
    dropped. Anchors: one size a level (32 to 512 pixels at `min_size` 800, smaller in proportion), three ratios;
    RetinaNet three sizes a level. Faster R-CNN samples 256 anchors and 512 boxes an image, and pools a box from the map
    (P2 to P5) of its size.

    Args:
        name: "faster_rcnn" or "retinanet".
        backbone: of `create_backbone`, one of the timm ResNets.
        num_classes: without the background.
        channels: of the FPN; box_features: of Faster R-CNN's two hidden layers; smaller in miniatures.
        min_size: images are resized to this short side, with the long side at most 1333 / 800 of it.

    Returns:
        A torchvision detector: in training mode images and targets to named losses, else images to detections. Images
        are a list of (3, H, W) in 0..1, labels count from 1.

    Raises:
        UsageError: unknown name, or a backbone that is no ResNet.
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
            # Which map a box is pooled from goes by its size, relative to 224 pixels at the full scale.
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
    # torchvision gives 300 boxes an image by itself; the 1x schedule is tested with 100.
    detector = RetinaNet(body, num_classes + 1, anchor_generator=anchors, detections_per_img=100, **common)
    _widen_initialisation(detector.head, channels)
    _keep_full_precision(anchors, detector.head)
    return detector


def _keep_full_precision(anchors: nn.Module, head: nn.Module) -> None:
    """Under autocast torchvision computes anchors, boxes and focal loss in the precision of the maps. bfloat16 rounds
    coordinates above 1,024 to multiples of 8, and the gradients of easy boxes to 0."""
    anchors.register_forward_pre_hook(_shapes)
    head.register_forward_hook(_head_as_float32)


def _shapes(module: nn.Module, inputs: tuple) -> tuple:
    """The generator reads only shapes, device and precision of the maps: float32 maps without memory will do."""
    images, maps = inputs
    return images, [one.new_empty((), dtype=torch.float32).expand(one.shape) for one in maps]


def _head_as_float32(module: nn.Module, inputs: tuple, output: Any) -> Any:
    return tree_map(torch.Tensor.float, output)


class _Predictor(nn.Module):
    """Class scores and box offsets (a box a class) of Faster R-CNN's pooled features."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.scores = nn.Linear(features, classes)
        self.boxes = nn.Linear(features, 4 * classes)

    def forward(self, x):  # noqa: ANN001, ANN201 (called by torchvision)
        return self.scores(x), self.boxes(x)


def _widen_initialisation(head: nn.Module, channels: int) -> None:
    """Keep the scale of the activations of a narrow head of RetinaNet, which has no normalisation.

    It is initialised with a deviation of 0.01 for 256 channels; with 64 its signal would vanish and it would not learn.
    With 256 this changes nothing.
    """
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= (_CHANNELS / channels) ** 0.5
