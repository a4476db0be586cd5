"""How well confidence matches accuracy: expected calibration error, likelihood, reliability diagram."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.extras import extra

with extra("analysis"):
    from torchmetrics.functional.classification import multiclass_calibration_error

# torchmetrics puts a confidence of exactly 1 into a bin of its own; it belongs to the last one.
_BELOW_ONE = 1 - 2**-24


@dataclass(frozen=True)
class Calibration:
    """ece: expected calibration error in percent; nll: mean negative log-likelihood in nats; top1: percent.

    The lists describe bins of equal width from confidence 0 to 1: the number of images in each bin, their mean
    confidence and their accuracy, both in percent (None in an empty bin).
    """

    ece: float
    nll: float
    top1: float
    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def calibration(logits: Tensor, labels: Tensor, bins: int) -> Calibration:
    """Return the calibration of the most likely class.

    `logits` is (N, classes), `labels` (N,). The expected calibration error is torchmetrics': the mean over images of
    the distance between the accuracy and the mean confidence of their bin. A bin includes its lower edge, the last bin
    both. ValueError if a logit is not finite, because then there is no most likely class.
    """
    if not logits.isfinite().all():
        raise ValueError("Logits that are not finite have no calibration: train with a lower learning rate.")
    probabilities = logits.double().softmax(1).float().clamp(max=_BELOW_ONE)
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels).double()
    ece = multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=bins, norm="l1")
    edges = torch.linspace(0, 1, bins + 1, device=logits.device)
    place = torch.bucketize(confidence, edges, right=True) - 1
    counts = torch.bincount(place, minlength=bins).tolist()
    confidences, accuracies = (
        [100 * total / n if n else None for total, n in zip(sums.tolist(), counts, strict=True)]
        for sums in (torch.bincount(place, values.double(), bins) for values in (confidence, right))
    )
    nll = float(F.cross_entropy(logits.double(), labels))
    return Calibration(100 * float(ece), nll, 100 * float(right.mean()), counts, confidences, accuracies)
