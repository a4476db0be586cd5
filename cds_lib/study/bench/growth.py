"""How the cost of contrastive deep supervision grows: with the batch, the taps, the classes, the image size.

Each case against the first one of its kind, in turn. "loss": the contrastive loss of all taps, forward and backward, on
embeddings of 512 dimensions. "step": forward and backward of CDS on the mini profile's resnet18, two views an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from cds_lib.losses import supcon_loss
from cds_lib.models import create_backbone
from cds_lib.study import protocols
from cds_lib.study.bench.timing import Row, interleaved
from cds_lib.study.build import create_method

DIMENSIONS = 512
LOSS = {"batch": 128, "taps": 4, "classes": 100}
STEP = {"batch": 64, "taps": 4, "classes": 100, "size": 16}
# Every quantity alone, the others as above; the first value is what the others are compared with.
LOSS_CASES = {"batch": (64, 128, 256, 512, 1024), "taps": (1, 2, 3, 4), "classes": (10, 100, 1000)}
STEP_CASES = {"batch": (32, 64, 128, 256), "taps": (1, 2, 3, 4), "classes": (10, 100, 1000), "size": (16, 32, 64)}


def rows(rounds: int) -> Iterator[Row]:
    """One row a case beside the first of each quantity."""
    for what, build, usual, cases in (("loss", loss, LOSS, LOSS_CASES), ("step", step, STEP, STEP_CASES)):
        for quantity, (first, *others) in cases.items():
            reference = build(**{**usual, quantity: first})
            for value in others:
                times = interleaved(build(**{**usual, quantity: value}), reference, rounds)
                yield Row("growth", f"{what}, {quantity} {value} against {first}", *times)


def loss(batch: int, taps: int, classes: int) -> Callable[[], None]:
    """A call of the loss and its gradient."""
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(taps, 2, batch, DIMENSIONS, generator=generator), dim=-1).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator)

    def call() -> None:
        supcon_loss(z, labels).sum().backward()
        z.grad = None

    return call


def step(batch: int, taps: int, classes: int, size: int) -> Callable[[], None]:
    """Forward and backward of CDS at the last `taps` stages."""
    torch.manual_seed(0)
    width = protocols.budget("mini", "cifar", "resnet18").width
    network = create_backbone("resnet18", classes, width=width)
    method = create_method("cds", network, classes, {"taps": list(range(5 - taps, 5))})
    method.to(memory_format=torch.channels_last).train()
    views = [torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    labels = torch.randint(classes, (batch,))

    def call() -> None:
        sum(method(*views, labels=labels).values()).backward()
        method.zero_grad(set_to_none=True)

    return call
