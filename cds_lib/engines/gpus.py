"""The GPUs of this machine, and whether they suffice for a run."""

from __future__ import annotations

import glob
import itertools
import os

from cds_lib.errors import UsageError

# An NVIDIA GPU on Linux; any GPU under WSL; an AMD GPU.
_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd")


def visible() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES; torch, slow to import, is asked only where the machine may have such a device."""
    if not any(map(glob.glob, _DEVICES)):
        return []
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not chosen or not torch.cuda.is_available():
        return [str(i) for i in range(torch.cuda.device_count())]
    # What CUDA does: a name that is none, such as -1, ends the list.
    return list(itertools.takewhile(lambda name: name.strip() != "-1", chosen.split(",")))


def check(processes: int) -> int:
    """The number of GPUs; UsageError if there are some, but fewer than a run on so many processes needs."""
    count = len(visible())
    if 0 < count < processes:
        raise UsageError(
            f"A run on {processes} processes needs as many GPUs, and this machine has {count}: "
            f"use --processes {count} or fewer."
        )
    return count
