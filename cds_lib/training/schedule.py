"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def learning_rate(
    step: int,
    steps_per_epoch: int,
    *,
    lr: float,
    epochs: int,
    schedule: str,
    milestones: tuple[int, ...] | None,
    warmup: int,
) -> float:
    """Learning rate of the 0-based `step`.

    "step": lr / 10 for every milestone that the 0-based epoch index has reached (released `CIFAR/train.py`).
    "cosine": half a cosine from lr to 0, one value a step. Both after `warmup` steps of a linear rise from 0.

    Raises:
        ValueError: for another schedule.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    if schedule == "step":
        epoch = step // steps_per_epoch
        return lr * 0.1 ** sum(epoch >= milestone for milestone in milestones or ())
    if schedule == "cosine":
        done = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
        return lr * 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"Unknown schedule {schedule!r}: step or cosine.")
