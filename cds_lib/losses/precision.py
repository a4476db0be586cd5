"""Losses compute in at least float32, whatever precision the network runs in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def outside_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A block without autocast; meta tensors, which are only shapes, know none."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers in float32; in float64 if they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: outside autocast, with the positional floating tensors in at least float32."""

    @functools.wraps(loss)
    def wrapped(*args: Tensor, **options: float) -> Tensor:
        args = tuple(at_least_float32(a) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        with outside_autocast(args[0].device):
            return loss(*args, **options)

    return wrapped


cross_entropy = full_precision(F.cross_entropy)
