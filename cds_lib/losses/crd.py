"""Contrastive representation distillation (Tian et al.): noise-contrastive estimation against a bank of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def contrast(anchors: Tensor, memory: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """exp(anchor . candidate / T) for the candidates that each anchor is given.

    All N products are computed and the candidates' picked: one matrix product reads far less memory than a copy of
    every anchor's candidates would.

    Args:
        anchors: (B, D), L2-normalised.
        memory: (N, D), a constant.
        candidates: (B, 1 + K) int64, rows of `memory`.
        temperature: T > 0.

    Returns:
        (B, 1 + K), float32 (float64 for float64 input).
    """
    return (anchors @ memory.T).gather(1, candidates).div(temperature).exp()


@full_precision
def nce_loss(scores: Tensor, num_images: int) -> Tensor:
    """Noise-contrastive estimation, mean over the anchors.

    With m negatives and noise probability 1 / num_images, the classifier's probability that a candidate of score x is
    the positive is x / (x + m / num_images). Source: `crd/criterion.py` of HobbitLong/RepDistiller, with its epsilon.

    Args:
        scores: (B, 1 + m) positive numbers, normalised by the partition constant; column 0 is the positive.
        num_images: of the training set, N.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    noise = (scores.shape[1] - 1) / num_images
    total = scores + (noise + 1e-7)
    positive, negatives = scores[:, 0] / total[:, 0], noise / total[:, 1:]
    return -(positive.log().sum() + negatives.log().sum()) / len(scores)


@torch.no_grad()
def updated_memory(memory: Tensor, index: Tensor, embeddings: Tensor, momentum: float) -> Tensor:
    """`memory` (N, D) with the rows `index` (B,) moved towards `embeddings` (B, D) and L2-normalised.

    A new tensor: the old one is still needed by the backward pass. Source: `crd/memory.py` of HobbitLong/RepDistiller.
    """
    rows = momentum * memory[index] + (1 - momentum) * embeddings.to(memory.dtype)
    return memory.index_copy(0, index, F.normalize(rows, dim=1))
