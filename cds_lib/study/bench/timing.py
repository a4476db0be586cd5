"""Measuring variants of the same work in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from cds_lib.study.engines.provenance import processor

WARM_UP = 3


@dataclass(frozen=True)
class Row:
    """One measurement: medians in seconds, of ours and of what it is compared with, and their ratio."""

    benchmark: str
    case: str
    ours: float
    reference: float

    @property
    def ratio(self) -> float:
        """Ours : reference; below 1 ours is faster."""
        return self.ours / self.reference

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio}


def interleaved(ours: Callable[[], object], reference: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of both, called in turn `rounds` times after a warm-up. A call that returns a float says itself
    how many of its seconds count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + rounds):
        for call, times in zip((ours, reference), seconds, strict=True):
            began = time.perf_counter()
            own = call()
            if turn >= WARM_UP:
                times.append(own if isinstance(own, float) else time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def machine() -> dict[str, str]:
    """What the numbers belong to."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
