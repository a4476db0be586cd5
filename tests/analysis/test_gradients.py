"""Gradients of two losses, of which the answer is known by hand."""

import math

import pytest
import torch
from torch import nn

from cds_lib.analysis.gradients import compare_gradients


def test_ratio_and_cosine_are_those_of_all_parameters_together():
    a, b = nn.Parameter(torch.tensor([2.0, 1.0])), nn.Parameter(torch.tensor(3.0))
    first = 3 * a[0] + 4 * b  # gradient (3, 0, 4), norm 5
    second = a.square().sum()  # (4, 2, 0), norm sqrt(20); it does not reach b
    ratio, cosine = compare_gradients(first, second, [a, b])
    assert ratio == pytest.approx(math.sqrt(20) / 5) and cosine == pytest.approx(12 / (5 * math.sqrt(20)))
    assert compare_gradients(second, 0.1 * second, [a, b]) == pytest.approx((0.1, 1.0))
    assert compare_gradients(first, -first, [a, b])[1] == pytest.approx(-1)
