"""The GPUs of this machine, and whether they suffice for a run."""

import glob
import itertools
import os

from cds_lib.errors import UsageError

# An NVIDIA GPU on Linux; any GPU under WSL; an AMD GPU.
_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd")


def device() -> str:
    """Return where this process computes, "cuda" or "cpu". UsageError if there is a GPU that PyTorch cannot use:
    training on the CPU instead would go unnoticed for hours."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.cuda.device_count():  # this asks the driver's tools, and so also counts GPUs of too old a driver
        raise UsageError(
            f"PyTorch {torch.__version__} sees a GPU and cannot use it: update the driver, or set CUDA_VISIBLE_DEVICES "
            "to nothing to train on the CPU."
        )
    return "cpu"


def visible() -> list[str]:
    """Return names for CUDA_VISIBLE_DEVICES. torch, slow to import, is asked only if the machine may have a GPU.
    UsageError as in `device`."""
    if not any(map(glob.glob, _DEVICES)) or device() == "cpu":
        return []
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not chosen:
        return [str(i) for i in range(torch.cuda.device_count())]
    # As in CUDA, an invalid name, such as -1 or the number of a GPU that is not there, ends the list.
    names = itertools.takewhile(lambda name: name.strip() != "-1", chosen.split(","))
    return list(names)[: torch.cuda.device_count()]


def check(processes: int) -> int:
    """Return the number of GPUs; UsageError if there are some, but fewer than a run on so many processes needs."""
    count = len(visible())
    if 0 < count < processes:
        raise UsageError(
            f"A run on {processes} processes needs as many GPUs, and this machine has {count}: "
            f"use --processes {count} or fewer."
        )
    return count
