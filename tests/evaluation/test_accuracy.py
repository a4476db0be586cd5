"""Accuracy and loss against counting by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cds_lib.evaluation.accuracy import evaluate, per_image

CPU = torch.device("cpu")


class Constant(nn.Module):
    """Logits are the images' first pixels."""

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


def test_uses_running_statistics_and_restores_the_mode():
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), Constant())
    norm.train()
    norm[1].eval()  # frozen
    before = norm[0].running_mean.clone()
    result = evaluate(norm, [(torch.zeros(4, 3, 1, 1), torch.zeros(4, dtype=torch.long))])
    assert [module.training for module in norm.modules()] == [True, True, False, True]
    assert torch.equal(norm[0].running_mean, before)
    assert result["loss"] == pytest.approx(math.log(3))


def test_the_mode_is_restored_where_the_evaluation_fails():
    network = nn.Sequential(Constant()).train()
    with pytest.raises(IndexError):
        evaluate(network, [(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))])
    assert network.training and network[0].training
