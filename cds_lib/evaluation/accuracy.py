"""Accuracy and cross-entropy of a plain backbone: no heads, no test-time augmentation, every image once."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.evaluation.mode import evaluating


@torch.inference_mode()
def evaluate(
    backbone: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    add_up: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> dict[str, float]:
    """Return accuracy and loss of a backbone in eval mode; its mode is restored afterwards.

    Args:
        backbone: (B, 3, S, S) -> logits (B, classes).
        batches: pairs of normalised images and labels; the last batch may be smaller.
        add_up: turns the counts of these images into those of all processes, if several evaluate a share each.

    Returns:
        {"top1": percent, "top5": percent (100 with five classes or fewer), "loss": mean cross-entropy in nats}. Counts
        are kept on the device and read once at the end. Among equal logits, top-1 takes the first. An image with a NaN
        logit counts as wrong, and the loss is then NaN.
    """
    totals = None
    count = 0
    with evaluating(backbone):
        for images, labels in batches:
            logits = backbone(images).float()
            answers = _answers(logits, labels)
            right = logits.argmax(1) == answers
            best = logits.topk(min(5, logits.shape[1])).indices == answers[:, None]
            loss = F.cross_entropy(logits, labels, reduction="sum")
            sums = torch.stack([right.sum(), best.sum(), loss]).double()
            totals = sums if totals is None else totals + sums
            count += len(labels)
    counts = torch.zeros(4, dtype=torch.float64)
    if totals is not None:
        counts[:3], counts[3] = totals.cpu(), count
    top1, top5, loss, count = add_up(counts).tolist()
    if count == 0:
        raise ValueError("There are no images to evaluate on.")
    return {"top1": 100 * top1 / count, "top5": 100 * top5 / count, "loss": loss / count}


@torch.inference_mode()
def per_image(
    backbone: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return, image by image in order, whether the first of the largest logits is that of the label, (N,) bool, and the
    cross-entropy in nats, (N,) float32. Batches are as in `evaluate`, on any device; none gives two empty arrays."""
    right, losses = [], []
    with evaluating(backbone):
        for images, labels in batches:
            images, labels = images.to(device), labels.to(device)
            logits = backbone(images).float()
            right.append(logits.argmax(1) == _answers(logits, labels))
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
    if not right:
        return np.zeros(0, bool), np.zeros(0, np.float32)
    return torch.cat(right).cpu().numpy(), torch.cat(losses).cpu().numpy()


def _answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the labels (N,), with -1 if a logit is NaN: it would count as the largest, and its class as the answer."""
    return labels.where(~logits.isnan().any(1), -1)
