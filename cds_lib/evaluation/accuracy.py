"""Top-1 accuracy and cross-entropy of a plain backbone: no heads, no test-time augmentation, every image once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.inference_mode()
def evaluate(backbone: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Evaluate in eval mode and leave the network in the mode it was in.

    Args:
        backbone: (B, 3, S, S) -> logits (B, classes).
        batches: pairs of normalised images and labels, the last batch may be smaller.

    Returns:
        {"top1": percent, "loss": mean cross-entropy in nats}; counts are kept on the device, read once at the end.
    """
    was_training = backbone.training
    backbone.eval()
    correct = loss = None
    count = 0
    for images, labels in batches:
        logits = backbone(images).float()
        hits = (logits.argmax(1) == labels).sum()
        total = F.cross_entropy(logits, labels, reduction="sum").double()
        correct, loss = (hits, total) if correct is None else (correct + hits, loss + total)
        count += len(labels)
    backbone.train(was_training)
    if count == 0:
        raise ValueError("There is no image to evaluate on.")
    return {"top1": 100.0 * correct.item() / count, "loss": loss.item() / count}
