"""The optimizer of a run: SGD, or LARS for long pre-training in large batches."""

from collections.abc import Iterable, Set

import torch
from timm.optim import Lars
from torch import nn

from cds_lib.training.budget import TrainingBudget


def make_optimizer(
    method: nn.Module, budget: TrainingBudget, pretrained: Set[str] | None = None
) -> torch.optim.Optimizer:
    """Return SGD or, for "lars", LARS on all parameters that are not frozen.

    Every parameter group has an `lr_factor`, which multiplies the schedule's learning rate. In SGD it is
    `budget.new_lr_factor` for parameters whose names are not in `pretrained`, else 1. LARS neither adapts nor decays
    vectors (biases, batch norms), as is usual; SGD decays all parameters, as released.
    """
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    if budget.optimizer == "lars":
        groups = [_group(p for p in trained.values() if p.ndim > 1)]
        groups.append({**_group(p for p in trained.values() if p.ndim <= 1), "weight_decay": 0.0})
        return Lars(groups, lr=budget.lr, momentum=budget.momentum, weight_decay=budget.weight_decay)
    if budget.optimizer is not None:
        raise ValueError(f"Unknown optimizer {budget.optimizer!r}: lars or None (SGD).")
    old = trained.keys() if pretrained is None else trained.keys() & pretrained
    groups = [_group(trained[name] for name in trained if name in old)]
    groups.append(_group((trained[name] for name in trained if name not in old), budget.new_lr_factor or 1.0))
    groups = [group for group in groups if group["params"]]
    sgd = torch.optim.SGD(groups, lr=budget.lr, momentum=budget.momentum, weight_decay=budget.weight_decay, fused=True)
    # The fused kernel skips a step whose float16 gradients overflow. If that were the first step, the momentum buffers
    # that it creates would stay uninitialised memory, and be used from then on. So they are created here.
    for parameter in trained.values() if budget.momentum else ():
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _group(parameters: Iterable[nn.Parameter], lr_factor: float = 1.0) -> dict:
    return {"params": list(parameters), "lr_factor": lr_factor}
