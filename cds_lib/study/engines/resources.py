"""What one run is trained with, on any engine. It decides speed, and no result is looked up by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """processes: that the run is spread over, a GPU each where there are GPUs; threads: that each of them computes on;
    workers: processes that decode images, for each of them; gpus: names for CUDA_VISIBLE_DEVICES, None for those that
    this process sees; compile_method: torch.compile the training step, of a run on one process."""

    processes: int = 1
    threads: int = 1
    workers: int = 0
    gpus: str | None = None
    compile_method: bool = False
