"""The optimizer of a run: SGD, or LARS for long pre-training in large batches."""

from collections.abc import Iterable, Set

import torch
from timm.optim import Lars
from torch import nn

from cds_lib.training.budget import TrainingBudget


def make_optimizer(
    method: nn.Module, budget: TrainingBudget, pretrained: Set[str] | None = None
) -> torch.optim.Optimizer:
    """SGD on all parameters, or LARS ("lars"); frozen parameters are left out.

    Every group has an `lr_factor` that multiplies the schedule's learning rate: `budget.new_lr_factor` for parameters
    whose names are not in `pretrained`, else 1. LARS neither adapts nor decays vectors (biases, batch norms), as usual
    for it; SGD decays all, as released.
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
    # Where float16 gradients overflow, the fused kernel leaves out the step by itself; were it the first one, the
    # buffers that it had made for it would stay unwritten memory, and be the momentum from then on.
    for parameter in trained.values() if budget.momentum else ():
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _group(parameters: Iterable[nn.Parameter], lr_factor: float = 1.0) -> dict:
    return {"params": list(parameters), "lr_factor": lr_factor}
