"""What a run costs, from its spec and without training it: arithmetic, parameters, disk.

Arithmetic is counted, not measured: the floating-point operations of convolutions and matrix products (two a
multiply-accumulate) of a training step with all its networks, by PyTorch's own counter, times the steps, and those of
the evaluations. Batch norms, activations, augmentation and the optimizer are not counted. Nothing here needs torch
as long as the step is among the counts that are kept (see `step_cost`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cds_lib.study.spec import RunSpec
from cds_lib.study.step_cost import image_counts, step_cost

# The rate at which training FLOPs are turned into GPU-hours. It is published, not ours: the README of airbench states
# 32.3 PFLOP in 7 minutes on one A100 for its standard ResNet-18 on CIFAR-10 (200 epochs of 50,000 images; 3 x 2 x 0.556
# GMAC an image make 33.4, so it counts as we do).
TERAFLOPS = 77
THROUGHPUT = f"{TERAFLOPS} TFLOP/s on an A100, as published for ResNet-18 on CIFAR-10 (airbench: 32.3 PFLOP in 7 min)"


@dataclass(frozen=True)
class RunCost:
    """steps: of the optimizer; train_flops, eval_flops: of the whole run; parameters: trained and frozen ones, a
    teacher's not; model_bytes: of the tensors in model.pt, checkpoint_bytes: of those in checkpoint.pt, which is there
    while the run trains."""

    steps: int
    train_flops: float
    eval_flops: float
    parameters: int
    model_bytes: int
    checkpoint_bytes: int

    @property
    def flops(self) -> float:
        """Training and evaluation."""
        return self.train_flops + self.eval_flops

    @property
    def gpu_hours(self) -> float:
        """Hours at `TERAFLOPS`."""
        return self.flops / (TERAFLOPS * 1e12) / 3600


@dataclass(frozen=True)
class Total:
    """The sum over some runs, each once. peak_bytes: of the largest checkpoint among them."""

    runs: int
    flops: float
    model_bytes: int
    peak_bytes: int

    @property
    def gpu_hours(self) -> float:
        """Hours at `TERAFLOPS`."""
        return self.flops / (TERAFLOPS * 1e12) / 3600


def run_cost(spec: RunSpec, data: tuple[int, int] | None = None) -> RunCost:
    """The cost of one run, without those it starts from.

    Images are those of the complete set (`data/registry.toml`), or as many as the budget takes of it; `data`: training
    and test images of a subset that was imported. Of COCO all training images count; about one in a hundred has no
    object and is left out. The last, smaller batch of an epoch counts in proportion to its images.
    """
    budget, step = spec.budget, step_cost(spec)
    images, evaluated = image_counts(spec, data)
    # As the loop: every `eval_every` epochs, and after the last.
    evaluations = budget.epochs // budget.eval_every + (budget.epochs % budget.eval_every > 0)
    return RunCost(
        steps=budget.epochs * -(-images // budget.batch_size),
        train_flops=step.train_flops / budget.batch_size * images * budget.epochs,
        eval_flops=float(step.eval_flops) * evaluated * evaluations,
        parameters=step.parameters,
        model_bytes=step.model_bytes,
        checkpoint_bytes=step.checkpoint_bytes,
    )


def total(specs: Iterable[RunSpec]) -> Total:
    """The cost of all these runs, each counted once."""
    costs = [run_cost(spec) for spec in {spec.id: spec for spec in specs}.values()]
    return Total(
        runs=len(costs),
        flops=sum(cost.flops for cost in costs),
        model_bytes=sum(cost.model_bytes for cost in costs),
        peak_bytes=max((cost.checkpoint_bytes for cost in costs), default=0),
    )
