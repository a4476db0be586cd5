"""Contrastive representation distillation (Tian et al.): noise-contrastive estimation against a bank of embeddings."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def contrast(anchors: Tensor, memory: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Return anchor . candidate / T for the candidates of each anchor.

    All N products are computed, and those of the candidates are selected. This reads far less memory than copying the
    candidates of every anchor.

    Args:
        anchors: (B, D), L2-normalised.
        memory: (N, D), a constant.
        candidates: (B, 1 + K) int64, rows of `memory`.
        temperature: T > 0.

    Returns:
        (B, 1 + K), float32 (float64 for float64 input).
    """
    return ((anchors / temperature) @ memory.T).gather(1, candidates)


@full_precision
def nce_loss(logits: Tensor, log_partition: Tensor | float, num_images: int) -> Tensor:
    """Return the noise-contrastive estimation loss, the mean over the anchors.

    The score of a candidate is x = exp(logit) / Z. With m negatives and noise probability 1 / num_images, the
    classifier's probability that it is the positive is x / (x + c), where c = m / num_images + 1e-7. Source:
    `crd/criterion.py` of HobbitLong/RepDistiller, with its epsilon. log(x + c) is computed as log c + softplus(log x -
    log c), in one pass over the candidates.

    Args:
        logits: (B, 1 + m); column 0 is the positive.
        log_partition: log Z, a constant.
        num_images: N, the size of the training set.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    negatives = logits.shape[1] - 1
    noise = negatives / num_images
    log_c = math.log(noise + 1e-7)
    rest = _SoftplusSum.apply(logits - (log_partition + log_c)) - (logits[:, 0] - log_partition).sum()
    return rest / len(logits) + log_c + negatives * math.log1p(1e-7 / noise)


class _SoftplusSum(torch.autograd.Function):
    """The sum of log(1 + exp(x)); its gradient is the sigmoid.

    On the CPU this is three times as fast as softplus, whose log1p is slow; a logarithm in double precision is as
    accurate. Other devices use softplus, which is fast there, because they may lack double precision.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        if x.device.type != "cpu":
            return F.softplus(x).sum()
        small = x.abs().neg_().exp_().double().add_(1).log_().sum()
        return (x.clamp(min=0).sum(dtype=torch.float64) + small).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.sigmoid().mul_(grad_output)


@torch.no_grad()
def updated_memory(memory: Tensor, index: Tensor, embeddings: Tensor, momentum: float) -> Tensor:
    """Return `memory` (N, D) with its rows `index` (B,) moved towards `embeddings` (B, D) and L2-normalised.

    It is a new tensor: the backward pass still needs the old one. Source: `crd/memory.py` of HobbitLong/RepDistiller.
    """
    rows = momentum * memory[index] + (1 - momentum) * embeddings.to(memory.dtype)
    return memory.index_copy(0, index, F.normalize(rows, dim=1))
