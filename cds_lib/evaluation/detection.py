"""COCO's average precision of a detector, by torchmetrics with faster-coco-eval."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cds_lib.evaluation.mode import evaluating
from cds_lib.extras import extra

with extra("analysis"):
    import faster_coco_eval  # noqa: F401 (the backend of torchmetrics)
    from torchmetrics.detection import MeanAveragePrecision

MEASURES = {"ap": "map", "ap_s": "map_small", "ap_m": "map_medium", "ap_l": "map_large"}


@torch.inference_mode()
def evaluate_detection(
    detector: nn.Module,
    batches: Iterable[tuple[list[Tensor], list[dict[str, Tensor]]]],
    collect: Callable[[list[Any]], list[Any]] = lambda records: records,
) -> dict[str, float]:
    """Return the average precision of a detector in eval mode; its mode is restored afterwards.

    Args:
        batches: images (3, H, W) in 0..1 and their targets: boxes (N, 4), labels (N,), area (N,), iscrowd (N,).
        collect: turns the records of these images into those of all processes that evaluate together, in order.

    Returns:
        {"ap", "ap_s", "ap_m", "ap_l"} in percent: the mean over IoU 0.50 to 0.95 for all objects, and for objects below
        32^2, between, and above 96^2 square pixels. A size without objects has no entry.
    """
    # COCO's own thresholds in double precision: torchmetrics' defaults are rounded to single precision, which shifts AP
    # by up to 0.2 points if a recall falls on a threshold.
    metric = MeanAveragePrecision(
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
        backend="faster_coco_eval",
        sync_on_compute=False,
    )
    metric.warn_on_many_detections = False  # ours return at most 100 boxes per image
    records: list[tuple[Any, Any]] = []  # detections and truth of each image
    with evaluating(detector):
        for images, targets in batches:
            records += zip(_on_cpu(detector(images)), _on_cpu(targets), strict=True)
    for found, true in collect(records):
        metric.update([found], [true])
    found = metric.compute()
    values = {name: 100 * found[key].item() for name, key in MEASURES.items()}
    return {name: value for name, value in values.items() if value >= 0}  # -1: no such objects


def _on_cpu(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value.cpu() for key, value in record.items()} for record in records]
