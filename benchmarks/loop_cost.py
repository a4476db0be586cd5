"""Time what the training loop costs on top of the network.

At the mini profile's resnet18 batch, epochs of `fit` (augmentation, loss, optimizer, bookkeeping, checkpoint) are
compared with as many bare forward and backward passes of the same network and heads on ready-made views. Neither
includes evaluation.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cds_lib.augment.batches import Batches
from cds_lib.models import create_backbone, forward_stages, pooled_and_logits
from cds_lib.study.data import sets
from cds_lib.study.engines.build import create_method
from cds_lib.study.plan import settings
from cds_lib.study.plan.spec import Budget
from cds_lib.training.loop import fit
from timing import Row, interleaved, show

STEPS = 20  # per epoch


def bare_step(method: nn.Module, images: Tensor) -> None:
    """Run forward and backward passes of backbone and heads, with given gradients at their outputs."""
    if method.views == 1 and not hasattr(method, "heads"):
        outputs = [method.backbone(images)]
    else:
        maps, features = forward_stages(method.backbone, images, method.indices)
        pooled, logits = pooled_and_logits(method.backbone, features)
        heads = method.heads.values() if hasattr(method.heads, "values") else method.heads
        outputs = [logits, pooled, *(head(map_) for head, map_ in zip(heads, maps, strict=False))]
    torch.autograd.backward(outputs, [torch.full_like(output, 1e-6) for output in outputs])
    method.zero_grad(set_to_none=True)


def epoch(method: nn.Module, batches: Batches, budget: Budget, checkpoint: Path) -> dict[str, float]:
    """Run an epoch of the training loop on the CPU, without evaluation, and return its row of the history."""
    (row,) = fit(
        method,
        batches,
        lambda backbone: {},
        budget,
        device=torch.device("cpu"),
        checkpoint_path=checkpoint,
        on_epoch=lambda rows: None,
    )
    checkpoint.unlink()
    return row


def rows(rounds: int) -> Iterator[Row]:
    """Yield one row per method, for one step."""
    for name in ("baseline", "dsn", "cds"):
        with tempfile.TemporaryDirectory() as folder:
            loop, bare = interleaved(*_epochs(name, Path(folder) / "checkpoint.pt"), rounds)
        yield name, loop / STEPS, bare / STEPS


def _epochs(name: str, checkpoint: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return an epoch of the loop, and as many bare steps."""
    spec = settings.supervised("mini", "cifar100", "resnet18", name, 0)
    size, batch = spec.budget.image_size, spec.budget.batch_size
    data = sets.load("cifar100", None, "standin", size)
    images, labels = (torch.from_numpy(array[: STEPS * batch]) for array in (data.train_images, data.train_labels))
    images = images.repeat(1 + STEPS * batch // len(images), 1, 1, 1)[: STEPS * batch]
    labels = labels.repeat(1 + STEPS * batch // len(labels))[: STEPS * batch]
    method = create_method(name, create_backbone("resnet18", 100, width=spec.budget.width), 100, spec.options)
    batches = Batches(images, labels, batch_size=batch, seed=0, views=method.views, cutout=spec.budget.cutout)
    budget = replace(spec.budget, epochs=1, warmup_epochs=0)
    ready = torch.cat(next(iter(batches.epoch(0)))[0]).contiguous(memory_format=torch.channels_last)

    def loop() -> None:
        epoch(method, batches, budget, checkpoint)

    def bare() -> None:
        for _ in range(STEPS):
            bare_step(method, ready)

    return loop, bare


if __name__ == "__main__":
    show("loop_cost", "a step, in epochs of 20: the training loop, bare passes of the network and its heads", rows)
