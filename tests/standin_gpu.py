"""A device "gpu" that needs no GPU: its tensors wrap CPU tensors, and operations run on the CPU.

Like a real GPU, it refuses operations on tensors of both devices. It counts the operations that would make the CPU wait
for a GPU: reading a number, an output whose shape depends on values, and a copy that is not `non_blocking`. After each
of them a GPU is idle until it gets new work.

`register()` changes the process for good (PyTorch's one free device type, functions that take a generator). It is
therefore called in a separate process: `rehearsal.py`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

LIBRARY = str(Path(__file__).parents[1] / "cds_lib")
WAITS: Counter[str] = Counter()  # waiting operation and the library line that called it

aten = torch.ops.aten
_READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
_SHAPED_BY_VALUES = {aten.nonzero.default, aten.masked_select.default, aten.bincount.default}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_COPIES = {aten._to_copy.default, aten.copy_.default}

_generator, _tensor, _as_tensor = torch.Generator, torch.tensor, torch.as_tensor


class OnDevice(torch.Tensor):
    """A tensor of the device; `memory` is the CPU tensor that it wraps."""

    @staticmethod
    def __new__(cls, memory: torch.Tensor) -> OnDevice:
        layout = {"strides": memory.stride(), "storage_offset": memory.storage_offset(), "dtype": memory.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, memory.size(), **layout, device="gpu:0")
        tensor.memory = memory
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})

    def tolist(self) -> Any:
        _wait("tolist")
        return self.memory.tolist()


def _run(operation: Any, args: tuple, kwargs: dict) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    known = {id(tensor.memory): tensor for tensor in tensors if isinstance(tensor, OnDevice)}
    others = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
    if known and operation not in _COPIES and any(tensor.ndim for tensor in others):  # CPU scalars are allowed
        raise RuntimeError(f"{operation} of tensors on both devices, at {_line()}")
    if _waits(operation, args, kwargs):
        _wait(str(operation))
    on_device = bool(known)
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == "gpu"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    args, kwargs = tree_map(lambda value: value.memory if isinstance(value, OnDevice) else value, (args, kwargs))
    result = operation(*args, **kwargs)
    if operation is aten.copy_.default:
        return tensors[0]

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not on_device:
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return result if operation is aten._local_scalar_dense.default else tree_map(wrapped, result)


def _waits(operation: Any, args: tuple, kwargs: dict) -> bool:
    if operation is aten._to_copy.default:
        target = kwargs.get("device") or args[0].device
        return torch.device(target).type != args[0].device.type and not kwargs.get("non_blocking")
    if operation is aten.copy_.default:
        return args[0].device.type != args[1].device.type and not (args[2:3] == (True,) or kwargs.get("non_blocking"))
    if operation in _INDEXED:
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return operation in _READS | _SHAPED_BY_VALUES


def _wait(what: str) -> None:
    WAITS[f"{what} at {_line()}"] += 1


def _line() -> str:
    """Return the line of the library that is being executed."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(LIBRARY)]
    return f"{frames[-1].filename.removeprefix(LIBRARY)[1:]}: {frames[-1].line}" if frames else "the test"


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Generator:
    """A generator that draws the same numbers as a CPU generator with its seed."""

    def __init__(self) -> None:
        self.on_cpu, self.device = _generator(), torch.device("gpu:0")

    def manual_seed(self, seed: int) -> _Generator:
        self.on_cpu.manual_seed(seed)
        return self


def _drawing(draw: Any) -> Any:
    def drawn(*args: Any, generator: Any = None, **named: Any) -> torch.Tensor:
        if not isinstance(generator, _Generator):
            return draw(*args, generator=generator, **named)
        return draw(*args, generator=generator.on_cpu, **{**named, "device": "cpu"}).to("gpu", non_blocking=True)

    return drawn


def _moving(make: Any) -> Any:
    """Wrap torch.tensor and torch.as_tensor, which would otherwise access the memory of the device."""

    def made(values: Any, *args: Any, device: Any = None, **named: Any) -> torch.Tensor:
        if isinstance(values, OnDevice):
            return values if device is None else values.to(device)
        tensor = make(values, *args, **named)
        return tensor if device is None else tensor.to(device)

    return made


def register() -> torch.device:
    """Register the device with PyTorch and return it."""
    _setup_privateuseone_for_python_backend("gpu", backend_module=_Backend())
    register.library = torch.library.Library("_", "IMPL")  # kept, because the registration ends with it
    register.library.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
    for name in ("rand", "randn", "randint", "randperm"):
        setattr(torch, name, _drawing(getattr(torch, name)))
    torch.tensor, torch.as_tensor = _moving(_tensor), _moving(_as_tensor)
    torch.Generator = lambda device="cpu": _Generator() if torch.device(device).type == "gpu" else _generator(device)
    return torch.device("gpu:0")
