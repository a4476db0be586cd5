"""Losses compute in float32 whatever precision the network runs in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor


def outside_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A block without autocast; meta tensors, which are only shapes, know none."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: outside autocast, with the positional tensors of less than float32 raised to float32."""

    @functools.wraps(loss)
    def wrapped(*args: Tensor, **options: float) -> Tensor:
        low = (torch.float16, torch.bfloat16)
        args = tuple(a.float() if isinstance(a, Tensor) and a.dtype in low else a for a in args)
        with outside_autocast(args[0].device):
            return loss(*args, **options)

    return wrapped
