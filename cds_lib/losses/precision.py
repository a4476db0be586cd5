"""Losses compute in float32 whatever precision the network runs in."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: outside autocast, with the positional tensors of less than float32 raised to float32."""

    @functools.wraps(loss)
    def wrapped(*args: Tensor, **options: float) -> Tensor:
        low = (torch.float16, torch.bfloat16)
        args = tuple(a.float() if isinstance(a, Tensor) and a.dtype in low else a for a in args)
        with torch.autocast(args[0].device.type, enabled=False):
            return loss(*args, **options)

    return wrapped
