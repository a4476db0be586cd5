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
    assert math.isnan(linear_cka(torch.ones(30, 2), y))


def test_cosines_are_those_of_the_pairs():
    first, second = normal(6, 4) + 2, normal(6, 4, seed=1) - 1
    a, b = first - first.mean(0), second - second.mean(0)
    pairs = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    same, different = view_similarity(first, second)
    assert same == pytest.approx(float(pairs.diagonal().mean()))
    assert different == pytest.approx(float(pairs[~torch.eye(6, dtype=torch.bool)].mean()))
