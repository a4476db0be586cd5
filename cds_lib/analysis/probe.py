"""Linear probes: multinomial logistic regression on frozen features, for many feature sets of a network at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 1e-5  # L-BFGS stops early if the largest entry of the gradient is below this


@dataclass(frozen=True)
class Probe:
    """Test and validation accuracy of a probe in percent, and the penalty that validation chose."""

    test_top1: float
    val_top1: float
    penalty: float


def probe(
    train: Mapping[str, Tensor],
    train_labels: Tensor,
    val: Mapping[str, Tensor],
    val_labels: Tensor,
    test: Mapping[str, Tensor],
    test_labels: Tensor,
    penalties: Sequence[float],
    iterations: int,
) -> dict[str, Probe]:
    """Fit a probe on every feature set, with the penalty of the best validation accuracy (among equals the strongest).

    Args:
        train, val, test: {name: features (N, C) float32}, with the same names in all three, on one device. C may differ
            between names.
        train_labels, val_labels, test_labels: (N,) int64, classes counted from 0.
        penalties: weights, strongest first (scikit-learn: C = 1 / (N * penalty)); a fit starts from the previous one.
        iterations: maximum number of L-BFGS iterations for each penalty.

    Features are standardised with the mean and deviation of the training images; a constant feature counts as 0.
    """
    classes = int(train_labels.max()) + 1
    mean, deviation = zip(*(_statistics(train[name]) for name in train), strict=True)
    parts = [
        _stack([(part[name] - m) / d for name, m, d in zip(train, mean, deviation, strict=True)])
        for part in (train, val, test)
    ]
    weight, bias = None, None
    best: dict[str, Probe] = {}
    for penalty in penalties:
        weight, bias = fit(parts[0], train_labels, classes, penalty, iterations, weight, bias)
        val_top1, test_top1 = (
            (torch.baddbmm(bias, part, weight).argmax(2) == labels).double().mean(1).mul(100).tolist()
            for part, labels in ((parts[1], val_labels), (parts[2], test_labels))
        )
        for number, name in enumerate(train):
            if name not in best or val_top1[number] > best[name].val_top1:
                best[name] = Probe(test_top1[number], val_top1[number], penalty)
    return best


def fit(
    features: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    iterations: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + penalty / 2 * |weight|^2 for all feature sets together, by L-BFGS.

    `features` (sets, N, C) and `labels` (N,) give weight (sets, C, classes) and bias (sets, 1, classes). The search
    starts at `weight` and `bias`, or at 0 if they are None. It uses coordinates in which the Hessian at the start,
    S / classes + penalty (S: second moments of the features), is about the identity: one step size then suits all sets.
    """
    sets, count, size = features.shape
    moments = features.mT @ features / (count * classes)
    factor = torch.linalg.cholesky(moments + penalty * torch.eye(size, device=features.device))
    back = torch.linalg.inv(factor).mT  # weight = back @ v
    inputs = features @ back
    start = features.new_zeros(sets, size, classes) if weight is None else factor.mT @ weight
    v = start.clone().requires_grad_()
    b = (features.new_zeros(sets, 1, classes) if bias is None else bias.clone()).requires_grad_()
    target = labels.repeat(sets)
    optimizer = torch.optim.LBFGS(
        [v, b],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=10,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        logits = torch.baddbmm(b, inputs, v)
        # The sum of the mean losses of the sets, which share nothing but the search.
        loss = F.cross_entropy(logits.flatten(0, 1), target, reduction="sum") / count
        loss = loss + penalty / 2 * (back @ v).square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return (back @ v).detach(), b.detach()


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    deviation = features.std(0, correction=0)
    return features.mean(0), torch.where(deviation > 0, deviation, torch.inf)


def _stack(sets: Sequence[Tensor]) -> Tensor:
    """Stack to (sets, N, C), with zeros if a set has fewer features than the largest: they do not change its probe."""
    size = max(features.shape[1] for features in sets)
    return torch.stack([F.pad(features, (0, size - features.shape[1])) for features in sets])
