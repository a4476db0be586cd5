"""The training loop, one for every method, data set and profile.

It only deals with a method that returns named losses, batches that yield views and labels, and numbers. `cds_lib.study`
decides what is trained on what.
"""

import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cds_lib.errors import TrainingError
from cds_lib.methods.method import Method
from cds_lib.training import checkpoint
from cds_lib.training.budget import TrainingBudget
from cds_lib.training.compiled import Compiled
from cds_lib.training.distributed import Group
from cds_lib.training.optimizer import make_optimizer
from cds_lib.training.precision import Precision
from cds_lib.training.schedule import learning_rate

_SECONDS_BETWEEN_CHECKS = 1.0
# On a GPU a small network needs seconds per epoch, and writing a checkpoint takes a tenth of that.
_SECONDS_BETWEEN_CHECKPOINTS = {"cuda": 30.0}


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
    on_compiled: Callable[[str], None] = lambda how: None,
    pretrained: Set[str] | None = None,
    group: Group | None = None,
    spec: str | None = None,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Train `method` in place for `budget.epochs` epochs, resuming from `checkpoint_path` if it exists.

    Args:
        method: the method to train; its named losses are minimised and its backbone is evaluated.
        batches: `len(batches)` is the number of steps per epoch. `batches.epoch(e)` yields (views, labels, index),
            which depend on e alone. Views and labels are this process's share of a batch; index is for the whole batch.
        evaluate: called with the backbone every `eval_every` epochs and after the last; its numbers join the row.
        on_epoch: called with all rows so far, once the checkpoint of the epoch, if there is one, is safe. On a GPU a
            checkpoint is written at most every half minute and at the end of training, elsewhere after every epoch.
        on_progress: called about once a second with the number of epochs done so far (a fraction).
        compile_method: whether to compute the losses with a compiled graph if possible (`Compiled`); one process only.
        on_compiled: called with a text that says how the losses are computed then, or why they are not compiled.
        pretrained: names of the parameters that were trained before. All others have `budget.new_lr_factor` times the
            learning rate. None: all have the same.
        group: the processes that train this run together. Each of them calls this function, and the first one writes.
            None: a single process.
        spec: text that identifies the training and is stored in its checkpoints. A checkpoint with another text is
            refused. None: any checkpoint is accepted.
        stop_after: number of epochs to stop after; another call continues the training. None: train to the end.

    Returns:
        One row per epoch: epoch (1-based), lr, train_loss, train_<term> (means over the epoch's images),
        images_per_second (training alone), the results of `evaluate` if it ran, and seconds (the whole epoch).

    Raises:
        TrainingError: if a loss is not finite (the message names epoch, step and term, and the last checkpoint stays),
            or if the checkpoint is damaged, of another spec, or of more epochs than the budget has.
        UsageError: if batch norms are to be synchronised but cannot be.
    """
    step = Step(method, budget, device=device, pretrained=pretrained, group=group)
    group = step.group
    rows: list[dict[str, float]] = []
    if checkpoint_path.exists():
        rows = _restore(step, checkpoint_path, spec)
        on_epoch(rows)  # the process may have stopped between the checkpoint and this call
    if compile_method and method.compiles and group.world == 1:
        step.losses = Compiled(method, device, on_compiled)

    steps = len(batches)
    until = budget.epochs if stop_after is None else min(stop_after, budget.epochs)
    saved, apart = time.perf_counter(), _SECONDS_BETWEEN_CHECKPOINTS.get(device.type, 0.0)
    for epoch in range(len(rows), until):
        began = time.perf_counter()
        terms = _TermLog(steps, device)
        last_check = began
        for number, (views, labels, index) in enumerate(batches.epoch(epoch)):
            lr = learning_rate(epoch * steps + number, steps, budget)
            losses, own = step(views, labels, index, lr)
            terms.add(losses, own)
            # Reading a loss waits for the device, so losses are checked about once a second, not in every step.
            if time.perf_counter() - last_check > _SECONDS_BETWEEN_CHECKS:
                terms.check(epoch)
                on_progress(epoch + (number + 1) / steps)
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
        if group.first and (time.perf_counter() - saved >= apart or epoch + 1 == until):
            checkpoint.save(checkpoint_path, {**_state(step), "rows": rows, "spec": spec})
            saved = time.perf_counter()
        on_epoch(rows)
        on_progress(epoch + 1)
    return rows


class Step:
    """One training step: losses, gradients, weights. Creating it puts the method on the device, in training mode.

    It is called with views, labels and index as batches yield them, and the learning rate. It returns the losses by
    name, and the number of this process's images that they are means over. It does not wait for the device.
    """

    def __init__(
        self,
        method: Method,
        budget: TrainingBudget,
        *,
        device: torch.device,
        pretrained: Set[str] | None = None,
        group: Group | None = None,
    ):
        method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
        method.train()
        self.method, self.budget, self.device, self.group = method, budget, device, group or Group()
        self.group.join(method, budget, device)
        self.precision = Precision(budget.precision, device)
        self.optimizer = make_optimizer(method, budget, pretrained)
        self.losses: Callable[..., dict[str, Tensor]] = self.group.parallel(method, method.classifies)

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor, index: Tensor, lr: float
    ) -> tuple[dict[str, Tensor], int]:
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = lr * parameters["lr_factor"]
        scaler, own = self.precision.scaler, self.group.begin_step(len(index))
        with self.precision.autocast():
            losses = self.losses(*views, labels=labels, **({"index": index} if self.method.needs_index else {}))
        scaler.scale(self.group.weighted(sum(losses.values()))).backward()  # type: ignore[arg-type]
        if self.budget.clip_norm is not None:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.method.parameters(), self.budget.clip_norm)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return losses, own


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
                "The last checkpoint is kept."
            )
        self.checked = len(self.sizes)

    def means(self, group: Group) -> tuple[int, dict[str, float]]:
        """Return the number of images in the epoch and the mean losses over them, across all processes."""
        sizes = torch.tensor(self.sizes, device=self.device, dtype=torch.float64)
        sums = (self.values[: len(self.sizes)].double() * sizes[:, None]).sum(0)
        *totals, images = group.sum(torch.cat([sums, sizes.sum()[None]])).tolist()
        named = {f"train_{name}": total / images for name, total in zip(self.names, totals, strict=True)}
        return int(images), {"train_loss": sum(named.values()), **named}


def _state(step: Step) -> dict[str, Any]:
    return {
        "method": step.method.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.precision.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": [torch.cuda.get_rng_state(step.device)] if step.device.type == "cuda" else [],
    }


def _restore(step: Step, path: Path, spec: str | None) -> list[dict[str, float]]:
    """Restore a step from a checkpoint; returns the rows of the finished epochs."""
    state = checkpoint.load(path, torch.device("cpu"))  # a second copy of everything might not fit on the device
    try:
        rows = state["rows"]
        if None not in (spec, state.get("spec")) and state["spec"] != spec:  # version 0.1.0 stored none
            raise ValueError("it belongs to another training")
        if len(rows) > step.budget.epochs:
            raise ValueError("it belongs to a longer training")
        step.method.load_state_dict(state["method"])
        step.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if nothing was scaled, as after a start on a device with bfloat16
            step.precision.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and step.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"][0], step.device)
        return rows
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # wrong names, wrong shapes and missing parts have no common class
        raise TrainingError(f"{path} belongs to another training: delete it and run again.") from error
