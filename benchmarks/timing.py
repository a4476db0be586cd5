"""Measure variants of the same work in turn, so that a busy machine slows all of them alike."""

import platform
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from cds_lib.study.engines.provenance import processor

WARM_UP, ROUNDS = 3, 25


Row = tuple[str, float, float]  # a case, and the median seconds of ours and of what it is compared with


def interleaved(ours: Callable[[], object], reference: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both, called in turn `rounds` times after a warm-up. If a call returns a float, this
    is the number of its seconds that count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + rounds):
        for call, times in zip((ours, reference), seconds, strict=True):
            began = time.perf_counter()
            own = call()
            if turn >= WARM_UP:
                times.append(own if isinstance(own, float) else time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def show(name: str, what: str, rows: Callable[[int], Iterator[Row]]) -> None:
    """Measure on one thread and print a Markdown table, row by row."""
    torch.set_num_threads(1)
    where = f"{processor()} ({platform.system()} {platform.machine()}), PyTorch {torch.__version__}, {ROUNDS} rounds"
    print(f"**{name}** ({what}; {where})\n\n| case | ours, ms | against, ms | ours : against |\n|---|---:|---:|---:|")
    for case, ours, reference in rows(ROUNDS):
        print(f"| {case} | {1e3 * ours:.2f} | {1e3 * reference:.2f} | {ours / reference:.3f} |", flush=True)
