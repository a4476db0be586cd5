"""The part of a run's budget that training reads."""

from typing import Protocol


class TrainingBudget(Protocol):
    """The fields of a run's budget that the loop and the optimizer read; see `cds_lib.study.plan.spec.Budget`."""

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    milestones: tuple[int, ...] | None
    warmup_epochs: int
    warmup_steps: int | None
    optimizer: str | None
    new_lr_factor: float | None
    clip_norm: float | None
    eval_every: int
    precision: str
    gather: bool | None
    sync_batchnorm: bool | None
