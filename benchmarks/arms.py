"""CDS, its control and the baseline at the paper's protocol on CIFAR-100, built with the library alone.

A test checks that they equal those of the study (`cds_lib/study/plan/rematch.py`, `protocols.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from cds_lib.cds import CDS
from cds_lib.methods.baseline import Baseline
from cds_lib.methods.method import Method
from cds_lib.models import create_backbone
from visit import CLASSES


@dataclass(frozen=True)
class Budget:
    """The paper's protocol on CIFAR, with ResNet-18."""

    epochs: int = 300
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = (90, 180, 280)
    warmup_epochs: int = 0
    warmup_steps: int | None = None
    optimizer: str | None = None
    new_lr_factor: float | None = None
    clip_norm: float | None = None
    eval_every: int = 1
    precision: str = "amp"
    gather: bool | None = None
    sync_batchnorm: bool | None = None
    width: float = 1.0

    def shortened(self, divisor: int) -> Budget:
        """Return the same schedule in 1 / divisor of the epochs, tested only at its end."""
        epochs = self.epochs // divisor
        return replace(self, epochs=epochs, eval_every=epochs, milestones=tuple(m // divisor for m in self.milestones))


ARMS: dict[str, Callable[[nn.Module], Method]] = {
    "baseline": Baseline,
    "control": partial(Baseline, views=2),
    "cds_released": partial(CDS, num_classes=CLASSES),
    "cds_both": partial(CDS, num_classes=CLASSES, cross_entropy_views=2),
}
PAIR = ("cds_both", "control")


def create(arm: str, budget: Budget) -> Method:
    """Create an arm with its initial weights, which are always the same."""
    torch.manual_seed(0)
    return ARMS[arm](create_backbone("resnet18", CLASSES, width=budget.width))
