"""The detectors: frozen and trained parts, anchors and sizes of the 1x schedule, and a training that works."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet, retinanet_resnet50_fpn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.rpn import AnchorGenerator

from cds_lib.errors import UsageError
from cds_lib.evaluation.detection import evaluate_detection
from cds_lib.methods.detection import Detection
from cds_lib.models import create_backbone, create_detector
from cds_lib.models.detectors import DETECTOR_NAMES
from cds_lib.study.data import standin
from cds_lib.study.data.detection_batches import DetectionBatches, DetectionEvaluation
from cds_lib.training.loop import fit
from toys import make_budget

CPU = torch.device("cpu")


def small(name, model="resnet18", width=0.125):
    torch.manual_seed(0)
    backbone = create_backbone(model, 10, stem="imagenet", width=width)
    return create_detector(name, backbone, 5, channels=16, box_features=32, min_size=64)


def batch():
    images = [torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [20.0, 30.0, 70.0, 60.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([1, 5])}, {"boxes": boxes[:1], "labels": torch.tensor([2])}]


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_stem_first_stage_and_batch_norms_are_fixed_and_all_else_trains(name):
    detector = pickle.loads(pickle.dumps(small(name))).train()  # like a detector saved whole or sent to another process
    backbone = detector.backbone.body
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    sum(detector(*batch()).values()).backward()
    torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1).step()
    after = detector.state_dict()
    assert not [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    frozen = ("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")
    for key, value in after.items():
        fixed = key.startswith(frozen) or any(part in key for part in (".bn", ".downsample.1."))
        if fixed:
            assert torch.equal(value, before[key]), key
    assert all(p.requires_grad != key.startswith(frozen) for key, p in detector.named_parameters())
    assert {p.grad is not None for p in backbone.layer4.parameters()} == {True}


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_the_backbone_gives_in_training_what_it_gave_in_evaluation(name):
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", 10, stem="imagenet", width=0.125).train()
    backbone(torch.randn(4, 3, 64, 64) * 3 + 1)  # running statistics unlike those at initialisation
    x = torch.randn(2, 3, 64, 64)
    expected = backbone.eval().forward_intermediates(x, intermediates_only=True)[-1].detach().clone()
    detector = create_detector(name, backbone, 5, channels=16, box_features=32, min_size=64).train()
    found = list(detector.backbone.body(x).values())[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


REFERENCE = {"faster_rcnn": fasterrcnn_resnet50_fpn, "retinanet": retinanet_resnet50_fpn}


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_at_full_size_it_is_torchvisions_detector(name):
    with torch.device("meta"):
        ours = create_detector(name, create_backbone("resnet50", 1000, stem="imagenet"), 80)
        theirs, whole = REFERENCE[name](weights=None, weights_backbone=None, num_classes=81), resnet50()

    def count(module):
        return sum(p.numel() for key, p in module.named_parameters() if not key.startswith("backbone.body"))

    difference = count(ours) - count(theirs)
    # torchvision's extra levels start from the 256 channels of the FPN or the 2,048 of stage 4. Ours start from
    # stage 4, as published.
    extra = ours.backbone.fpn.extra_blocks.p6.weight.numel() if name == "retinanet" else 0
    known = theirs.backbone.fpn.extra_blocks.p6.weight.numel() if name == "retinanet" else 0
    assert difference == extra - known
    body = sum(v.numel() for k, v in whole.state_dict().items() if not k.startswith("fc") and "tracked" not in k)
    assert sum(v.numel() for k, v in ours.backbone.body.state_dict().items() if not k.startswith("fc")) == body
    generators = ((d if name == "retinanet" else d.rpn).anchor_generator for d in (ours, theirs))
    anchors = (AnchorGenerator(each.sizes, each.aspect_ratios).cell_anchors for each in generators)  # with values
    for mine, published in zip(*anchors, strict=True):
        assert mine.shape == published.shape
        assert (mine - published).abs().max() <= 2  # torchvision rounds RetinaNet's anchor sizes down
    assert (ours.transform.min_size, ours.transform.max_size) == ((800,), 1333)
    assert (ours if name == "retinanet" else ours.roi_heads).detections_per_img == 100  # COCO scores at most 100


def pooled_level(detector, side, image):
    """Return the level (1 is the finest) from which a box of this side is pooled in a square image of side `image`."""
    names = detector.roi_heads.box_roi_pool.featmap_names
    sides = {name: image // 2**k for k, name in enumerate(names, 2)}
    maps = {name: torch.full((1, 1, side, side), float(k)) for k, (name, side) in enumerate(sides.items(), 1)}
    box = torch.tensor([[8.0, 8.0, 8.0 + side, 8.0 + side]])
    return detector.roi_heads.box_roi_pool(maps, [box], [(image, image)]).mean().item()


def test_boxes_are_pooled_from_the_level_of_their_size():
    """At full size the levels equal those of torchvision's detector; the miniature scales in proportion. Pooling uses
    all maps of the FPN except the one that only anchors use."""
    theirs = REFERENCE["faster_rcnn"](weights=None, weights_backbone=None, num_classes=3)
    full, small = (
        create_detector("faster_rcnn", create_backbone("resnet18", 2, stem="imagenet", width=0.125), 2, min_size=size)
        for size in (800, 160)
    )
    sides = (40, 100, 150, 250, 400, 600, 780)
    levels = [pooled_level(full, side, 800) for side in sides]
    assert levels == [pooled_level(theirs, side, 800) for side in sides] == [1, 1, 2, 3, 3, 4, 4]
    assert [pooled_level(small, side / 5, 160) for side in sides] == levels
    maps = full.backbone(torch.zeros(1, 3, 64, 64))
    assert full.roi_heads.box_roi_pool.featmap_names == list(maps)[:-1]


def test_miniatures_have_anchors_in_proportion():
    full, half = (
        create_detector("faster_rcnn", create_backbone("resnet18", 2, stem="imagenet", width=0.125), 2, min_size=size)
        for size in (800, 400)
    )
    for large, little in zip(*(each.rpn.anchor_generator.cell_anchors for each in (full, half)), strict=True):
        assert (large - 2 * little).abs().max() <= 1  # rounded to whole pixels
    assert half.transform.max_size == pytest.approx(1333 / 2, abs=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("yolo", nn.Identity()), "no detector named 'yolo'; choose one of faster_rcnn, retinanet"),
        (("retinanet", nn.Identity()), "built on a timm ResNet, not on Identity"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        create_detector(*arguments, 3)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_training_on_a_few_images_learns_their_objects(name, tmp_path):
    """Overfit three images: the classification loss falls to less than half."""
    data = standin.make_coco()
    images = data.train[:3]
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", 10, stem="imagenet", width=0.25)
    detector = create_detector(name, backbone, len(data.names), channels=32, box_features=64, min_size=64)
    lr, epochs = (0.02, 10) if name == "faster_rcnn" else (0.05, 66)
    rows = fit(
        Detection(detector),
        DetectionBatches(images, batch_size=3, seed=0, device=CPU, workers=0),
        lambda detector: evaluate_detection(detector, DetectionEvaluation(images, batch_size=3, device=CPU, workers=0)),
        make_budget(
            lr=lr, epochs=epochs, eval_every=epochs, schedule="step", milestones=(), warmup_epochs=0, clip_norm=5.0
        ),
        device=CPU,
        checkpoint_path=tmp_path / "checkpoint.pt",
        on_epoch=lambda rows: None,
    )
    losses = [row["train_classification" if name == "retinanet" else "train_loss_classifier"] for row in rows]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4]) and 0 <= rows[-1]["ap"] < 100


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_boxes_and_anchors_are_exact_under_autocast(name, monkeypatch):
    """In bfloat16 a coordinate above 1,024 would be a multiple of eight."""
    detector, seen = small(name).train(), {}
    generator = detector.anchor_generator if name == "retinanet" else detector.rpn.anchor_generator
    generator.register_forward_hook(lambda module, inputs, output: seen.update(anchors=output[0]))
    encode = BoxCoder.encode_single

    def encoding(coder, reference, proposals):
        seen.setdefault("encoded", []).extend((reference.dtype, proposals.dtype))
        return encode(coder, reference, proposals)

    monkeypatch.setattr(BoxCoder, "encode_single", encoding)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        detector(*batch())
    exact = small(name).train()
    plain = exact.anchor_generator if name == "retinanet" else exact.rpn.anchor_generator
    plain.register_forward_hook(lambda module, inputs, output: seen.update(plain=output[0]))
    exact(*batch())
    assert seen["anchors"].dtype == torch.float32 and torch.equal(seen["anchors"], seen["plain"])
    assert seen["encoded"] and set(seen["encoded"]) == {torch.float32}


def test_retinanets_loss_computes_in_full_precision(monkeypatch):
    """In bfloat16 the gradient of easy boxes, which are most boxes, would be rounded to 0."""
    seen, focal = [], retinanet.sigmoid_focal_loss
    monkeypatch.setattr(
        retinanet, "sigmoid_focal_loss", lambda *args, **named: seen.append(args[0].dtype) or focal(*args, **named)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small("retinanet").train()(*batch())
    assert seen == [torch.float32] * 2  # once per image
