"""The one training loop: every method, every data set, every profile.

It knows a method that returns named losses, batches that yield views and labels, and numbers. What is trained on what
is decided in `cds_lib.study`.
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
# On a GPU small networks need seconds for an epoch, and writing a checkpoint takes a tenth of that.
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
    """Train `method` in place for `budget.epochs`, resuming from `checkpoint_path` if it is there.

    Args:
        method: whose named losses are minimised, and whose backbone is evaluated.
        batches: `len(batches)` steps an epoch, `batches.epoch(e)` yields (views, labels, index) that depend on e alone;
            views and labels of this process's share of a batch, index of the whole batch.
        evaluate: called with the backbone every `eval_every` epochs and after the last; the numbers join the row.
        on_epoch: called with all rows so far, after the checkpoint of the epoch is safe. On a GPU a checkpoint is
            written at the first end of an epoch that is half a minute after the last checkpoint, and at the end of
            training.
        on_progress: called about once a second with the epochs done so far (a fraction).
        compile_method: compute the losses by a compiled graph where that works (`Compiled`); of one process.
        on_compiled: called with how they are computed then, or why not.
        pretrained: names of the parameters that were trained before; all others learn `budget.new_lr_factor` times as
            fast. None: all learn alike.
        group: the processes that train this run together, which all call this; the first one writes. None: this alone.
        spec: a text that identifies the training, kept in its checkpoints; one with another text is refused. None: any
            checkpoint is taken.
        stop_after: epochs to stop after; called again, the training goes on. None: at its end.

    Returns:
        One row an epoch: epoch (1-based), lr, train_loss, train_<term> (means over the epoch's images),
        images_per_second (training alone), what `evaluate` returned where it ran, and seconds (all of the epoch).

    Raises:
        TrainingError: a loss is not finite; the sentence names epoch, step and term. The last checkpoint stays. Or the
            checkpoint is damaged, of another spec, or of more epochs than the budget has.
        UsageError: batch norms are to be synchronised where they cannot.
    """
    step = Step(method, budget, device=device, pretrained=pretrained, group=group)
    group = step.group
    rows: list[dict[str, float]] = []
    if checkpoint_path.exists():
        rows = _restore(step, checkpoint_path, spec)
        on_epoch(rows)  # it may have been stopped between the checkpoint and this
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
            # Reading a loss waits for the device, so it is done once in a while, never every step.
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
    """One step of a training: losses, gradients, weights. It puts the method on the device, in training mode.

    Called with views, labels and index as batches yield them, and the learning rate; returns the losses by name, and
    how many images they are means over, those of this process. No device is waited for.
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
        """The images of the epoch, and the means over them, of all processes."""
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
    """Bring a step to the state of a checkpoint; returns the rows of the epochs that are done."""
    state = checkpoint.load(path, torch.device("cpu"))  # a second copy of everything might not fit on the device
    try:
        rows = state["rows"]
        if None not in (spec, state.get("spec")) and state["spec"] != spec:  # version 0.1.0 wrote none
            raise ValueError("it is of another training")
        if len(rows) > step.budget.epochs:
            raise ValueError("it is of a longer training")
        step.method.load_state_dict(state["method"])
        step.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where nothing was scaled: it may have begun on a device that computes in bfloat16
            step.precision.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and step.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"][0], step.device)
        return rows
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # names or shapes that do not fit, a part that is missing: no common class
        raise TrainingError(f"{path} is of another training: delete it and run again.") from error
