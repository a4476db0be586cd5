"""How hard two losses pull at the weights that they share, and whether in the same direction."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def compare_gradients(first: Tensor, second: Tensor, parameters: Iterable[nn.Parameter]) -> tuple[float, float]:
    """The norm of the gradient of `second` in units of that of `first`, and the cosine of the two, -1 to 1.

    Both losses are scalars of one graph; the gradients are those of all parameters together, 0 where a loss does not
    reach one. NaN where the gradient of either is 0.
    """
    shared = list(parameters)
    a, b = (_gradient(loss, shared) for loss in (first, second))
    norms = a.norm(), b.norm()
    return float(norms[1] / norms[0]), float(a @ b / (norms[0] * norms[1]))


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten().double() for part in parts])
