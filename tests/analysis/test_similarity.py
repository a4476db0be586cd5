"""CKA against its definition by Gram matrices; cosine similarities against pairs counted one by one."""

import math

import pytest
import torch

from cds_lib.analysis.similarity import linear_cka, view_similarity
from toys import normal


def hsic_cka(x, y):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = XX', L = YY' (Gretton et al. 2005)."""
    n = len(x)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n

    def hsic(k, m):
        return torch.trace(k @ centring @ m @ centring) / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())


def test_is_the_definition_by_gram_matrices():
    x, y = normal(30, 5) + 3, normal(30, 8, seed=1)
    y[:, :5] += 0.5 * x
    assert linear_cka(x, y) == pytest.approx(hsic_cka(x, y), rel=1e-10)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-10)


def test_rotation_scale_and_shift_change_nothing():
    x, y = normal(40, 6), normal(40, 7, seed=1)
    rotation, _ = torch.linalg.qr(normal(6, 6, seed=2))
    assert linear_cka(x, x @ rotation * 3 + 10) == pytest.approx(1, abs=1e-10)
    assert linear_cka(x @ rotation * 0.1 - 4, y) == pytest.approx(linear_cka(x, y), rel=1e-9)


def test_independent_features_are_far_apart():
    assert linear_cka(normal(5000, 4), normal(5000, 4, seed=1)) < 0.01
    assert math.isnan(linear_cka(torch.ones(5, 2), normal(5, 2)))


def test_half_precision_changes_no_printed_digit():
    x, y = normal(500, 20).relu(), normal(500, 20).relu() + 0.3 * normal(500, 20, seed=1).relu()
    assert linear_cka(x.half().float(), y.half().float()) == pytest.approx(linear_cka(x, y), abs=5e-4)


def test_cosines_are_those_of_the_pairs():
    first, second = normal(6, 4) + 2, normal(6, 4, seed=1) - 1
    a, b = first - first.mean(0), second - second.mean(0)
    pairs = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    same, different = view_similarity(first, second)
    assert same == pytest.approx(float(pairs.diagonal().mean()))
    assert different == pytest.approx(float(pairs[~torch.eye(6, dtype=torch.bool)].mean()))


def test_equal_views_are_alike_and_a_common_offset_does_not_count():
    x = normal(200, 8)
    assert view_similarity(x, x)[0] == pytest.approx(1)
    same, different = view_similarity(normal(2000, 8) + 100, normal(2000, 8, seed=1) + 100)
    assert abs(same) < 0.03 and abs(different) < 0.01
