"""Relative size and direction of the gradients of two losses in the weights that they share."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def compare_gradients(first: Tensor, second: Tensor, parameters: Iterable[nn.Parameter]) -> tuple[float, float]:
    """Return the gradient norm of `second` relative to that of `first`, and the cosine of the two gradients, -1 to 1.

    Both losses are scalars of one graph. A gradient covers all parameters together, with 0 for those that its loss does
    not reach. The cosine is NaN if either gradient is 0.
    """
    shared = list(parameters)
    a, b = (_gradient(loss, shared) for loss in (first, second))
    norms = a.norm(), b.norm()
    return float(norms[1] / norms[0]), float(a @ b / (norms[0] * norms[1]))


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten().double() for part in parts])
