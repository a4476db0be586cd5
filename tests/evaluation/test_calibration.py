"""Calibration against a count in NumPy and cases that are known beforehand."""

import numpy as np
import pytest
import torch

from cds_lib.evaluation.calibration import calibration


def numpy_ece(logits, labels, bins):
    """Percent: the mean over images of |accuracy - confidence| of their bin, by a loop over the bins."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for low, high in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins, strict=True):
        here = (confidence >= low) & ((confidence < high) if high < 1 else (confidence <= 1))
        if here.any():
            total += here.sum() * abs(right[here].mean() - confidence[here].mean())
    return 100 * total / len(labels)


@pytest.mark.parametrize("bins", [1, 5, 15])
@pytest.mark.parametrize("scale", [0.5, 3.0, 200.0])  # at 200 most confidences are exactly 1
def test_is_the_error_counted_in_numpy(bins, scale):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 2000)
    logits = scale * (random.normal(size=(2000, 10)) + 2 * np.eye(10)[labels])
    found = calibration(torch.tensor(logits), torch.tensor(labels), bins)
    assert found.ece == pytest.approx(numpy_ece(logits, labels, bins), abs=1e-3)
    assert found.top1 == pytest.approx(100 * (logits.argmax(1) == labels).mean())
    columns = zip(found.counts, found.accuracy, found.confidence, strict=True)
    assert sum(n * abs(a - c) for n, a, c in columns if n) / 2000 == pytest.approx(found.ece, abs=1e-3)
    assert sum(found.counts) == 2000 and len(found.counts) == len(found.accuracy) == len(found.confidence) == bins


def logits_of(confidence, count):
    """Two classes, class 0 with this confidence."""
    return torch.tensor([[np.log(confidence / (1 - confidence)), 0.0]]).repeat(count, 1)


def test_confidence_that_is_the_accuracy_has_no_error():
    found = calibration(logits_of(0.8, 10), torch.tensor([0] * 8 + [1] * 2), 15)
    assert found.ece == pytest.approx(0, abs=1e-4)
    assert found.nll == pytest.approx(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2)))
    assert [i for i, n in enumerate(found.counts) if n] == [12]  # 0.8 is the lower edge of the thirteenth of 15 bins
    assert found.accuracy[11] is None and found.accuracy[12] == pytest.approx(80)


def test_complete_certainty_belongs_to_the_last_bin():
    logits = torch.tensor([[1000.0, 0.0]] * 4 + [[4.0, 0.0]] * 4)  # confidences 1 and 0.982
    found = calibration(logits, torch.tensor([0, 0, 1, 1] + [0] * 4), 15)
    assert found.counts == [0] * 14 + [8]
    # One bin: accuracy 75 %, mean confidence 99.1 %. torchmetrics alone would have two: 50 % against 100 % and so on.
    assert found.ece == pytest.approx(100 * ((1 + float(torch.tensor(4.0).sigmoid())) / 2 - 0.75), abs=1e-3)


@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_have_no_calibration(fault):
    logits = torch.eye(4)
    logits[1, 2] = fault
    with pytest.raises(ValueError, match="not finite"):
        calibration(logits, torch.arange(4), 5)
