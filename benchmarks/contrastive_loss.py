"""Time the contrastive loss of all taps at once, forward and backward, against four calls of a straightforward loss."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses import supcon_loss
from timing import Row, interleaved, show

TAPS, DIMENSIONS, CLASSES, TEMPERATURE = 4, 512, 100, 0.07


def straightforward(z: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of one tap, z (views, B, D), by its formula, with a (views B)^2 matrix for every step of it."""
    anchors, labels = z.flatten(0, 1), labels.repeat(len(z))
    logits = anchors @ anchors.T / TEMPERATURE
    logits = logits - logits.max(1, keepdim=True).values.detach()
    others = 1 - torch.eye(len(anchors))
    positives = (labels[:, None] == labels).float() * others
    log_probabilities = logits - (logits.exp() * others).sum(1, keepdim=True).log()
    return -((positives * log_probabilities).sum(1) / positives.sum(1)).mean()


def rows(rounds: int) -> Iterator[Row]:
    """Yield one row per batch size; the cost grows with the square of the batch size."""
    for batch in (64, 128, 256, 512, 1024):
        generator = torch.Generator().manual_seed(0)
        z = F.normalize(torch.randn(TAPS, 2, batch, DIMENSIONS, generator=generator), dim=-1).requires_grad_()
        labels = torch.randint(CLASSES, (batch,), generator=generator)

        def together(z: Tensor = z, labels: Tensor = labels) -> None:
            supcon_loss(z, labels, TEMPERATURE).sum().backward()
            z.grad = None

        def one_by_one(z: Tensor = z, labels: Tensor = labels) -> None:
            sum(straightforward(tap, labels) for tap in z).backward()
            z.grad = None

        yield f"2x{batch} views", *interleaved(together, one_by_one, rounds)


if __name__ == "__main__":
    show("contrastive_loss", "four taps, forward and backward: ours, four straightforward calls", rows)
