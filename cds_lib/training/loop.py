"""The one training loop: every method, every data set, every profile.

It knows a method that returns named losses, batches that yield views and labels, and numbers. What is trained on what
is decided in `cds_lib.study`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cds_lib.errors import TrainingError
from cds_lib.methods.method import Method
from cds_lib.training import checkpoint
from cds_lib.training.budget import TrainingBudget
from cds_lib.training.distributed import Group
from cds_lib.training.optimizer import make_optimizer
from cds_lib.training.precision import Precision
from cds_lib.training.schedule import learning_rate

_SECONDS_BETWEEN_CHECKS = 1.0


def fit(
    method: Method,
    batches: Any,
    evaluate: Callable[[nn.Module], dict[str, float]],
    budget: TrainingBudget,
    *,
    device: torch.device,
    checkpoint_path: Path,
    on_epoch: Callable[[list[dict[str, float]]], None],
    on_progress: Callable[[float], None] = lambda epochs: None,
    compile_method: bool = False,
    pretrained: Set[str] | None = None,
    group: Group | None = None,
    spec: str | None = None,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Train `method` in place for `budget.epochs`, resuming from `checkpoint_path` if it is there.

    Args:
        method: whose named losses are minimised, and whose backbone is evaluated.
        batches: `len(batches)` steps an epoch, `batches.epoch(e)` yields (views, labels, index) that depend on e alone;
            views and labels of this process's share of a batch, index of the whole batch.
        evaluate: called with the backbone every `eval_every` epochs and after the last; the numbers join the row.
        on_epoch: called with all rows so far, after the checkpoint of the epoch is safe.
        on_progress: called about once a second with the epochs done so far (a fraction).
        pretrained: names of the parameters that were trained before; all others learn `budget.new_lr_factor` times as
            fast. None: all learn alike.
        group: the processes that train this run together, which all call this; the first one writes. None: this alone.
        spec: all that decides the result, as a text that checkpoints carry. None: none is asked for, nor refused.
        stop_after: epochs to stop after, on the way of the whole training; called again, it goes on. None: at its end.

    Returns:
        One row an epoch: epoch (1-based), lr, train_loss, train_<term> (means over the epoch's images),
        images_per_second (training alone), what `evaluate` returned where it ran, and seconds (all of the epoch).

    Raises:
        TrainingError: a loss is not finite; the sentence names epoch, step and term. The last checkpoint stays. Or the
            checkpoint is damaged, of another spec, or of more epochs than the budget has.
        UsageError: batch norms are to be synchronised where they cannot.
    """
    method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
    method.train()
    group = group or Group()
    group.join(method, budget, device)
    precision = Precision(budget.precision, device)
    optimizer = make_optimizer(method, budget, pretrained)
    rows: list[dict[str, float]] = []
    if checkpoint_path.exists():
        rows = _restore(checkpoint_path, method, optimizer, precision.scaler, device, budget.epochs, spec)
        on_epoch(rows)  # it may have been stopped between the checkpoint and this
    # Static shapes: the smaller last batch of an epoch gets a graph of its own instead of slowing all others down.
    step_method: Any = torch.compile(method, dynamic=False) if compile_method else method
    step_method = group.parallel(step_method, method.classifies)

    steps = len(batches)
    for epoch in range(len(rows), budget.epochs if stop_after is None else min(stop_after, budget.epochs)):
        began = time.perf_counter()
        terms = _TermLog(steps, device)
        last_check = began
        for step, (views, labels, index) in enumerate(batches.epoch(epoch)):
            lr = learning_rate(
                epoch * steps + step,
                steps,
                lr=budget.lr,
                epochs=budget.epochs,
                schedule=budget.schedule,
                milestones=budget.milestones,
                warmup=budget.warmup_epochs * steps if budget.warmup_steps is None else budget.warmup_steps,
            )
            for parameters in optimizer.param_groups:
                parameters["lr"] = lr * parameters["lr_factor"]
            own = group.begin_step(len(index))
            with precision.autocast():
                losses = step_method(*views, labels=labels, **({"index": index} if method.needs_index else {}))
            precision.scaler.scale(group.weighed(sum(losses.values()))).backward()
            if budget.clip_norm is not None:
                precision.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(method.parameters(), budget.clip_norm)
            precision.scaler.step(optimizer)
            precision.scaler.update()
            optimizer.zero_grad(set_to_none=True)
            terms.add(losses, own)
            # Reading a loss waits for the device, so it is done once in a while, never every step.
            if time.perf_counter() - last_check > _SECONDS_BETWEEN_CHECKS:
                terms.check(epoch)
                on_progress(epoch + (step + 1) / steps)
                last_check = time.perf_counter()
        terms.check(epoch)
        images, means = terms.means(group)
        row = {"epoch": epoch + 1, "lr": lr, **means}
        row["images_per_second"] = images / (time.perf_counter() - began)
        group.equalise(method)
        if (epoch + 1) % budget.eval_every == 0 or epoch + 1 == budget.epochs:
            row |= evaluate(method.backbone)
        row["seconds"] = time.perf_counter() - began
        rows = [*rows, row]
        if group.first:
            state = _state(rows, method, optimizer, precision.scaler, device)
            checkpoint.save(checkpoint_path, {**state, "spec": spec})
        on_epoch(rows)
        on_progress(epoch + 1)
    return rows


class _TermLog:
    """The named losses of an epoch, kept on the device."""

    def __init__(self, steps: int, device: torch.device):
        self.names: list[str] = []
        self.values = torch.empty(0)
        self.sizes: list[int] = []
        self.steps, self.device, self.checked = steps, device, 0

    def add(self, losses: dict[str, Tensor], batch_size: int) -> None:
        if not self.names:
            self.names = list(losses)
            self.values = torch.zeros(self.steps, len(losses), device=self.device)
        torch.stack([loss.detach().float() for loss in losses.values()], out=self.values[len(self.sizes)])
        self.sizes.append(batch_size)

    def check(self, epoch: int) -> None:
        new = self.values[self.checked : len(self.sizes)]
        bad = (~torch.isfinite(new)).nonzero()
        if len(bad):
            step, term = bad[0].tolist()
            raise TrainingError(
                f"The loss term {self.names[term]!r} became {new[step, term].item()} in epoch {epoch + 1}, step "
                f"{self.checked + step + 1} of {self.steps}: lower the learning rate or the term's weight. "
                "The checkpoint of the last whole epoch is kept."
            )
        self.checked = len(self.sizes)

    def means(self, group: Group) -> tuple[int, dict[str, float]]:
        """The images of the epoch, and the means over them, of all processes."""
        sizes = torch.tensor(self.sizes, device=self.device, dtype=torch.float64)
        sums = (self.values[: len(self.sizes)].double() * sizes[:, None]).sum(0)
        *totals, images = group.sum(torch.cat([sums, sizes.sum()[None]])).tolist()
        named = {f"train_{name}": total / images for name, total in zip(self.names, totals, strict=True)}
        return int(images), {"train_loss": sum(named.values()), **named}


def _state(
    rows: list[dict[str, float]], method: nn.Module, optimizer: Any, scaler: Any, device: torch.device
) -> dict[str, Any]:
    return {
        "rows": rows,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def _restore(
    path: Path,
    method: nn.Module,
    optimizer: Any,
    scaler: Any,
    device: torch.device,
    epochs: int,
    spec: str | None,
) -> list[dict[str, float]]:
    state = checkpoint.load(path, torch.device("cpu"))  # a second copy of everything might not fit on the device
    try:
        rows = state["rows"]
        if None not in (spec, state.get("spec")) and state["spec"] != spec:  # version 0.1.0 wrote none
            raise ValueError("it is of another training")
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or len(rows) > epochs:
            raise ValueError("its epochs are not those of this training")
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where nothing was scaled: it may have begun on a device that computes in bfloat16
            scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"][0], device)
        return rows
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # names or shapes that do not fit, a part that is missing: no common class
        raise TrainingError(f"{path} is of another training: delete it and run again.") from error
