"""COCO's average precision equals that of pycocotools, including crowds and object sizes."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from cds_lib.evaluation.detection import evaluate_detection

NAMES = ("ap", "ap_s", "ap_m", "ap_l")


def objects(seed, images=12, classes=4, largest=150):
    """Return random boxes of every size; some are crowds, some images empty. As in COCO, areas are not box areas."""
    random, found = np.random.default_rng(seed), []
    for _ in range(images):
        n = int(random.integers(0, 6))
        corner = random.uniform(0, 100, (n, 2))
        side = random.choice([random.uniform(8, 30), random.uniform(33, 90), random.uniform(97, largest)], (n, 2))
        boxes = np.concatenate([corner, corner + side], 1)
        found.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "labels": torch.from_numpy(random.integers(1, classes + 1, n)),
                "area": torch.tensor(side.prod(1) * random.uniform(0.5, 1, n), dtype=torch.float32),
                "iscrowd": torch.from_numpy(random.random(n) < 0.15),
            }
        )
    return found


def detections(targets, seed):
    """Return the output of a fair detector: boxes shifted, some of another class, some missing, some invented."""
    random, found = np.random.default_rng(seed), []
    for target in targets:
        kept = torch.from_numpy(random.random(len(target["boxes"])) < 0.8)
        boxes = target["boxes"][kept]
        boxes = boxes + torch.from_numpy(random.normal(0, 4, boxes.shape)).float()
        labels = target["labels"][kept].clone()
        wrong = torch.from_numpy(random.random(len(labels)) < 0.2)
        labels[wrong] = 1
        invented = torch.tensor([[5.0, 5.0, 30.0, 40.0]]).repeat(2, 1) + random.uniform(0, 60)
        boxes, labels = torch.cat([boxes, invented]), torch.cat([labels, torch.tensor([1, 2])])
        scores = torch.from_numpy(random.random(len(boxes))).float()
        found.append({"boxes": boxes, "labels": labels, "scores": scores})
    return found


class Told(nn.Module):
    """A detector that returns the given answers one after another."""

    def __init__(self, answers):
        super().__init__()
        self.answers = iter(answers)

    def forward(self, images):
        assert not self.training
        return [next(self.answers) for _ in images]


def ours(targets, answers):
    detector = Told(answers).train()
    batches = [([torch.zeros(3, 4, 4)] * len(part), part) for part in (targets[:5], targets[5:])]
    measured = evaluate_detection(detector, batches)
    assert detector.training
    return measured


def of_pycocotools(targets, answers):
    def xywh(box):
        x1, y1, x2, y2 = (float(v) for v in box)
        return [x1, y1, x2 - x1, y2 - y1]

    annotations = [
        {"image_id": number, "bbox": xywh(box), "category_id": int(label), "area": float(area), "iscrowd": int(crowd)}
        for number, target in enumerate(targets, 1)
        for box, label, area, crowd in zip(*(target[k] for k in ("boxes", "labels", "area", "iscrowd")), strict=True)
    ]
    said = [
        {"image_id": number, "bbox": xywh(box), "category_id": int(label), "score": float(score)}
        for number, answer in enumerate(answers, 1)
        for box, label, score in zip(answer["boxes"], answer["labels"], answer["scores"], strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(targets) + 1)],
            "annotations": [{**one, "id": k} for k, one in enumerate(annotations, 1)],
            "categories": [{"id": c} for c in range(1, 6)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(said), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = dict(zip(NAMES, evaluation.stats[[0, 3, 4, 5]].tolist(), strict=True))
    return {name: 100 * value for name, value in values.items() if value >= 0}


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools(seed):
    targets = objects(seed)
    answers = detections(targets, seed + 100)
    expected = of_pycocotools(targets, answers)
    assert ours(targets, answers) == pytest.approx(expected, abs=1e-4)
    assert 5 < expected["ap"] < 95 and any(target["iscrowd"].any() for target in targets)


def test_a_size_without_objects_has_no_entry():
    box = torch.tensor([[10.0, 10.0, 20.0, 20.0]])
    both = {"boxes": box, "labels": torch.tensor([1])}
    target = {**both, "area": torch.tensor([100.0]), "iscrowd": torch.tensor([False])}
    assert ours([target] * 6, [{**both, "scores": torch.tensor([0.9])}] * 6) == pytest.approx(
        {"ap": 100.0, "ap_s": 100.0}
    )


def test_no_detection_at_all_is_zero():
    targets = objects(2)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert ours(targets, [nothing] * len(targets))["ap"] == 0
