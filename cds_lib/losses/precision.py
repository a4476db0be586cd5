"""Losses compute in at least float32, whatever precision the network runs in."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def outside_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context without autocast; on the meta device, which has no autocast, it does nothing."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a loss to run outside autocast, with its floating-point tensor arguments in at least float32."""

    @functools.wraps(loss)
    def wrapped(*args: Any, **named: Any) -> Tensor:
        first = next(value for value in (*args, *named.values()) if isinstance(value, Tensor))
        with outside_autocast(first.device):
            return loss(*map(_raised, args), **{name: _raised(value) for name, value in named.items()})

    return wrapped


def _raised(value: Any) -> Any:
    return at_least_float32(value) if isinstance(value, Tensor) and value.is_floating_point() else value


cross_entropy = full_precision(F.cross_entropy)
