"""Accuracy, loss and calibration against counting by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cds_lib.evaluation.accuracy import evaluate, per_image
from cds_lib.evaluation.calibration import calibration

CPU = torch.device("cpu")


class Constant(nn.Module):
    """Return the first pixel of each image as its logits."""

    def forward(self, images):
        return images[:, :, 0, 0]


def test_counts_every_image_once_whatever_the_batches():
    logits = torch.tensor([[3.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0], [5.0, 0, 0], [0, 1.0, 0]])
    images, labels = logits[:, :, None, None], torch.tensor([0, 1, 0, 0, 2])
    expected = -torch.log_softmax(logits, 1)[torch.arange(5), labels].mean().item()
    for sizes in ([5], [2, 2, 1], [1, 4]):
        batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
        result = evaluate(Constant(), batches)
        assert (result["top1"], result["loss"]) == (pytest.approx(60.0), pytest.approx(expected, rel=1e-6))
        right, losses = per_image(Constant(), batches, CPU)
        assert right.tolist() == [True, True, False, True, False]
        assert 100 * right.mean() == result["top1"] and losses.mean() == pytest.approx(result["loss"], rel=1e-6)
    assert [len(found) for found in per_image(Constant(), [], CPU)] == [0, 0]
    with pytest.raises(ValueError, match="no image"):
        evaluate(Constant(), [])


def test_top5_counts_the_five_largest_logits():
    logits = torch.arange(8.0).repeat(4, 1)  # the five largest are 3 to 7
    result = evaluate(Constant(), [(logits[:, :, None, None], torch.tensor([7, 3, 2, 0]))])
    assert (result["top1"], result["top5"]) == (25.0, 50.0)
    assert evaluate(Constant(), [(torch.randn(4, 3, 1, 1), torch.zeros(4, dtype=torch.long))])["top5"] == 100.0


@pytest.mark.parametrize("place", [0, 3, slice(None)])
@pytest.mark.parametrize("classes", [4, 8])
def test_logits_that_are_no_numbers_are_wrong(classes, place):
    logits = torch.eye(classes)
    logits[:3, place] = torch.nan
    batches = [(logits[:, :, None, None], torch.arange(classes))]
    result = evaluate(Constant(), batches)
    assert result["top1"] == result["top5"] == 100 * (classes - 3) / classes and math.isnan(result["loss"])
    right, losses = per_image(Constant(), batches, CPU)
    assert right.tolist() == [False] * 3 + [True] * (classes - 3) and np.isnan(losses[:3]).all()


def test_uses_running_statistics_and_restores_the_mode_also_where_it_fails():
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), Constant())
    norm.train()
    norm[1].eval()  # frozen
    before = norm[0].running_mean.clone()
    result = evaluate(norm, [(torch.zeros(4, 3, 1, 1), torch.zeros(4, dtype=torch.long))])
    with pytest.raises(ValueError):
        evaluate(norm, [(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))])
    assert [module.training for module in norm.modules()] == [True, True, False, True]
    assert torch.equal(norm[0].running_mean, before)
    assert result["loss"] == pytest.approx(math.log(3))


# -- calibration -------------------------------------------------------------------------------------------------------


def numpy_ece(logits, labels, bins):
    """Return in percent the mean over images of |accuracy - confidence| of their bin, by a loop over the bins."""
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
def test_the_calibration_error_is_the_one_counted_in_numpy(bins, scale):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 2000)
    logits = scale * (random.normal(size=(2000, 10)) + 2 * np.eye(10)[labels])
    found = calibration(torch.tensor(logits), torch.tensor(labels), bins)
    assert found.ece == pytest.approx(numpy_ece(logits, labels, bins), abs=1e-3)
    assert found.top1 == pytest.approx(100 * (logits.argmax(1) == labels).mean())
    assert sum(found.counts) == 2000 and len(found.counts) == bins
    columns = zip(found.counts, found.accuracy, found.confidence, strict=True)
    assert sum(n * abs(a - c) for n, a, c in columns if n) / 2000 == pytest.approx(found.ece, abs=1e-3)


def logits_of(confidence, count):
    """Return logits of two classes; class 0 has this confidence."""
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
    # One bin: accuracy 75 %, mean confidence 99.1 %. torchmetrics alone would use two, one of them 50 % against 100 %.
    assert found.ece == pytest.approx(100 * ((1 + float(torch.tensor(4.0).sigmoid())) / 2 - 0.75), abs=1e-3)


@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_have_no_calibration(fault):
    logits = torch.eye(4)
    logits[1, 2] = fault
    with pytest.raises(ValueError, match="not finite"):
        calibration(logits, torch.arange(4), 5)
