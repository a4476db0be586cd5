"""Time a training step of CDS as released (resnet18, 32x32, 100 classes, four taps), with a quarter of its batch.

Ours is an epoch of `fit` with one step: augmentation, method, optimizer and bookkeeping. The checkpoint is left out:
the released protocol writes it once per epoch of 391 steps. The step is compared with bare forward and backward passes
of the same network and heads on ready-made views, and with a straightforward port of the released script: the same
network in PyTorch's default memory format, the released Pillow pipelines, the contrastive loss tap by tap, plain SGD.
All are in float32 with 2x32 views, since 2x128 take 15 seconds a step.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from augmentation import released_views
from cds_lib.augment.batches import Batches
from cds_lib.methods import ContrastiveDeepSupervision
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from cds_lib.study.plan import settings
from contrastive_loss import straightforward
from loop_cost import bare_step, epoch
from timing import Row, interleaved, show

BATCH, SIZE, CLASSES = 32, 32, 100


def rows(rounds: int, width: float = 1.0) -> Iterator[Row]:
    """Yield two rows: against the bare passes and against the port. width: of the network; 1 is the released width."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, 3, SIZE, SIZE), np.uint8))
    labels = torch.arange(BATCH) % CLASSES
    views = torch.cat(next(iter(Batches(images, labels, batch_size=BATCH, seed=0).epoch(0)))[0])
    ready, bare_method = views.contiguous(memory_format=torch.channels_last), _method(width)
    bare_method.to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        step = _loop(_method(width), images, labels, Path(folder) / "checkpoint.pt")
        yield "bare passes", *interleaved(step, lambda: bare_step(bare_method, ready), rounds)
        port = _port(_method(width), images, labels)
        yield "straightforward port", *interleaved(step, port, rounds)


def _method(width: float) -> ContrastiveDeepSupervision:
    torch.manual_seed(0)
    spec = settings.supervised("paper", "cifar100", "resnet18", "cds", 0)
    return create_method("cds", create_backbone("resnet18", CLASSES, width=width), CLASSES, spec.options).train()


def _loop(
    method: ContrastiveDeepSupervision, images: torch.Tensor, labels: torch.Tensor, checkpoint: Path
) -> Callable[[], float]:
    spec = settings.supervised("paper", "cifar100", "resnet18", "cds", 0)
    budget = replace(spec.budget, epochs=1, batch_size=BATCH, precision="fp32")
    batches = Batches(images, labels, batch_size=BATCH, seed=0, cutout=budget.cutout)

    def step() -> float:
        return BATCH / epoch(method, batches, budget, checkpoint)["images_per_second"]  # of the training alone

    return step


def _port(method: ContrastiveDeepSupervision, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    budget = settings.supervised("paper", "cifar100", "resnet18", "cds", 0).budget
    arrays = images.permute(0, 2, 3, 1).numpy()
    pipelines = released_views(SIZE)
    optimizer = torch.optim.SGD(
        method.parameters(), lr=budget.lr, momentum=budget.momentum, weight_decay=budget.weight_decay
    )

    def step() -> None:
        pictures = [Image.fromarray(array) for array in arrays]
        views = torch.cat([torch.stack([view(picture) for picture in pictures]) for view in pipelines])
        z, logits = method.embed(views)
        loss = F.cross_entropy(logits[:BATCH], labels)
        for tap in z.unflatten(1, (2, BATCH)):
            loss = loss + method.weight * straightforward(tap, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    show(
        "released_step",
        "a step of CDS as released at 2x32 views: the training loop, bare passes, a straightforward port",
        rows,
    )
