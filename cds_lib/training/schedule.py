"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from cds_lib.training.budget import TrainingBudget


def learning_rate(step: int, steps_per_epoch: int, budget: TrainingBudget) -> float:
    """Return the learning rate of the 0-based `step`.

    "step": lr / 10 for every milestone that the 0-based epoch index has reached (released `CIFAR/train.py`).
    "cosine": half a cosine from lr to 0, one value per step. Both follow a linear warm-up from 0, which lasts
    `warmup_steps`, or `warmup_epochs` if that is None.

    Raises:
        ValueError: if the schedule is unknown.
    """
    b, epoch = budget, step // steps_per_epoch
    warmup = b.warmup_epochs * steps_per_epoch if b.warmup_steps is None else b.warmup_steps
    if step < warmup:
        return b.lr * (step + 1) / warmup
    if b.schedule == "step":
        return b.lr * 0.1 ** sum(epoch >= milestone for milestone in b.milestones or ())
    if b.schedule == "cosine":
        done = (step - warmup) / max(1, b.epochs * steps_per_epoch - warmup)
        return b.lr * 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"Unknown schedule {b.schedule!r}: step or cosine.")
