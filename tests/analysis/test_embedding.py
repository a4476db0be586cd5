"""Neighbours and silhouettes counted by hand; the picture is the same every time."""

import numpy as np
import pytest

from cds_lib.analysis.embedding import neighbour_accuracy, silhouette, standardised, tsne


def test_standardised_columns():
    features = np.array([[1.0, 7, 0], [3, 7, 10]], dtype=np.float16)
    np.testing.assert_array_equal(standardised(features), [[-1, 0, -1], [1, 0, 1]])


def test_an_image_does_not_vote_for_itself():
    features = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # The two nearest others of 10 and of 11 are one of each class: a tie, which the lower class wins.
    assert neighbour_accuracy(features, labels, 2) == pytest.approx(100 * 4 / 6)
    assert neighbour_accuracy(features, labels, 1) == pytest.approx(100)
    # Only its own vote would be right.
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
