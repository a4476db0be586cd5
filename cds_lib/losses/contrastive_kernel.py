"""The kernel of `supcon_loss`: loss and gradient in one pass, in blocks. `contrastive.py` has the formula.

Committed runs depend on its exact bits: a change that rounds differently changes their training.
"""

from typing import Any

import torch
from torch import Tensor

# Number of pairs whose similarities are held at a time. Beyond it, taps are processed in groups, and a tap that alone
# exceeds it in blocks of anchors.
_BLOCK_ELEMENTS = 2**22
# Minimum number of rows of z z^T per product: smaller products are slow.
_STRIP = 128


def supcon_kernel(z: Tensor, labels: Tensor, temperature: float | Tensor) -> Tensor:
    """Return losses (taps,) of z (taps, n, dim) float32 or float64 and labels (n,). Once differentiable, in z alone."""
    return _SupCon.apply(z, labels, temperature)


class _SupCon(torch.autograd.Function):
    """Loss and gradient in one pass over blocks of anchors, so that no n x n tensor outlives its block.

    With w_a = 1/(number of anchors that have positives), or 0 if a has none, s = z z^T / t without its diagonal, and
    Q_ap = 1/|P(a)| for positives, the loss is sum_a w_a (logsumexp_k s_ak - sum_p Q_ap s_ap). The gradient with respect
    to s is G = w (softmax(s) - Q), and with respect to z it is (G + G^T) z / t.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, labels: Tensor, temperature: float | Tensor) -> Tensor:
        taps, n, _ = z.shape
        positives = (labels[:, None] == labels[None, :]).sum(1).sub(1).to(z.dtype)  # |P(a)|, (n,)
        has_positive = positives > 0
        weight = has_positive.to(z.dtype) / has_positive.sum().clamp(min=1)  # (n,)
        loss = z.new_zeros(taps)
        grad = torch.zeros_like(z) if ctx.needs_input_grad[0] else None
        group = max(1, min(taps, _BLOCK_ELEMENTS // n**2))
        for start in range(0, taps, group):
            part = slice(start, start + group)
            _add_loss_and_gradient(
                z[part], labels, temperature, positives, weight, loss[part], None if grad is None else grad[part]
            )
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grad_output[:, None, None], None, None


def _add_loss_and_gradient(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    positives: Tensor,
    weight: Tensor,
    loss: Tensor,
    grad: Tensor | None,
) -> None:
    """Write the losses of some taps z (taps, n, D) to `loss` and, if given, gradients to `grad`; both must start at 0.

    The gradient takes one product if all anchors are in one block, otherwise two per block.
    """
    taps, n, _ = z.shape
    block = max(1, min(n, _BLOCK_ELEMENTS // (taps * n)))
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        w = weight[rows, None]
        wq = (labels[rows, None] == labels[None, :]).to(z.dtype)  # w Q, (rows, n)
        wq.diagonal(start).zero_()
        wq *= w / positives[rows, None].clamp(min=1)
        s = _gram(z) if block == n else torch.bmm(z[:, rows], z.mT)
        s.div_(temperature).diagonal(start, 1, 2).fill_(torch.finfo(s.dtype).min / 4)  # finite: 0 * inf is nan
        largest = s.amax(-1, keepdim=True)
        s.sub_(largest)  # changes no loss: it shifts the mean over positives as much as the log-sum
        loss -= s.flatten(1) @ wq.flatten()
        softmax = s.exp()  # not yet divided by its denominator
        total = softmax.sum(-1, keepdim=True)
        loss += total.log()[..., 0] @ w[:, 0]
        if grad is None:
            continue
        softmax.mul_(w / total)  # w softmax(s)
        if block == n:
            # z z^T and w Q are symmetric, so the transpose of w softmax(s) is exp(s_ak - log_sum_k) w_k. A second
            # exponential takes less time than reading a large matrix across its rows.
            s.add_(largest).sub_(total.log().add_(largest).mT).exp_().mul_(weight)
            torch.bmm(s.add_(softmax).sub_(wq, alpha=2).div_(temperature), z, out=grad)
        else:
            g = softmax.sub_(wq).div_(temperature)
            grad[:, rows] += torch.bmm(g, z)
            grad.baddbmm_(g.mT, z[:, rows])


def _gram(z: Tensor) -> Tensor:
    """Return z z^T, (taps, n, n). A CPU computes little more than its upper half; a GPU is faster computing it all."""
    taps, n, _ = z.shape
    if z.device.type != "cpu" or n <= _STRIP:
        return torch.bmm(z, z.mT)
    products = z.new_empty(taps, n, n)
    strip = max(_STRIP, -(-n // 8))
    for out, tap in zip(products, z, strict=True):
        for start in range(0, n, strip):
            end = start + strip
            torch.mm(tap[start:end], tap[start:].T, out=out[start:end, start:])
            out[end:, start:end] = out[start:end, end:].T
    return products
