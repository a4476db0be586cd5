"""Similarities, gradients, neighbours and silhouettes against their definitions, computed or counted by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cds_lib.analysis.embedding import neighbour_accuracy, silhouette, standardised, tsne
from cds_lib.analysis.gradients import compare_gradients
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


def test_cka_is_its_definition_by_gram_matrices():
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


# -- gradients of two losses -------------------------------------------------------------------------------------------


def test_ratio_and_cosine_of_gradients_are_those_of_all_parameters():
    a, b = nn.Parameter(torch.tensor([2.0, 1.0])), nn.Parameter(torch.tensor(3.0))
    first = 3 * a[0] + 4 * b  # gradient (3, 0, 4), norm 5
    second = a.square().sum()  # (4, 2, 0), norm sqrt(20); it does not reach b
    ratio, cosine = compare_gradients(first, second, [a, b])
    assert ratio == pytest.approx(math.sqrt(20) / 5) and cosine == pytest.approx(12 / (5 * math.sqrt(20)))
    assert compare_gradients(second, 0.1 * second, [a, b]) == pytest.approx((0.1, 1.0))
    assert compare_gradients(first, -first, [a, b])[1] == pytest.approx(-1)


# -- neighbours, silhouettes, t-SNE ------------------------------------------------------------------------------------


def test_standardised_columns():
    features = np.array([[1.0, 7, 0], [3, 7, 10]], dtype=np.float16)
    np.testing.assert_array_equal(standardised(features), [[-1, 0, -1], [1, 0, 1]])


def test_an_image_does_not_vote_for_itself():
    features = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # The two nearest neighbours of 10 and of 11 are one of each class. The lower class wins the tie.
    assert neighbour_accuracy(features, labels, 2) == pytest.approx(100 * 4 / 6)
    assert neighbour_accuracy(features, labels, 1) == pytest.approx(100)
    # Only an image's own vote would be right.
    assert neighbour_accuracy(np.arange(4.0)[:, None], np.array([0, 1, 0, 1]), 1) == 0


def test_silhouette_of_two_pairs():
    features = np.array([[0.0], [1.0], [10.0], [11.0]])
    by_hand = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5, 1 - 1 / 9.5, 1 - 1 / 10.5])
    assert silhouette(features, np.array([0, 0, 1, 1])) == pytest.approx(by_hand)


def test_the_picture_is_reproducible_and_keeps_far_clusters_apart():
    random, labels = np.random.default_rng(0), np.repeat([0, 1], 25)
    features = random.normal(size=(50, 6)) + 40 * labels[:, None]
    points = tsne(features, 8.0, 0)
    assert points.shape == (50, 2) and np.isfinite(points).all()
    np.testing.assert_array_equal(points, tsne(features, 8.0, 0))
    assert neighbour_accuracy(points, labels, 5) == 100
