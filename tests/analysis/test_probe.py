"""Linear probes against scikit-learn's logistic regression, and on features whose accuracy is known beforehand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cds_lib.analysis.probe import fit, probe
from toys import generator, normal

PENALTIES = [1e-1, 1e-2, 1e-3]


def clusters(count, classes, size, noise, seed):
    """Return correlated features around one mean per class, and their labels."""
    shared = generator(99)
    means, mix = torch.randn(classes, size, generator=shared), torch.randn(size, size, generator=shared)
    labels = torch.arange(count) % classes
    return (means[labels] + noise * normal(count, size, seed=seed, dtype=torch.float32)) @ mix, labels


@pytest.mark.parametrize("penalty", PENALTIES)
def test_is_scikit_learns_logistic_regression(penalty):
    features, labels = clusters(300, 7, 12, 1.5, 0)
    features = (features - features.mean(0)) / features.std(0, correction=0)
    weight, bias = fit(features[None], labels, 7, penalty, iterations=500)
    oracle = LogisticRegression(C=1 / (300 * penalty), tol=1e-8, max_iter=10_000)
    oracle.fit(features.double().numpy(), labels.numpy())
    np.testing.assert_allclose(weight[0].T.numpy(), oracle.coef_, atol=2e-3 * np.abs(oracle.coef_).max())
    # Shifting every bias alike changes nothing, so only differences are compared.
    ours = bias[0, 0].numpy()
    np.testing.assert_allclose(ours - ours.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=5e-3)


def test_sets_fitted_together_are_the_sets_fitted_alone():
    first, labels = clusters(200, 4, 10, 1.0, 0)
    second = clusters(200, 4, 10, 3.0, 1)[0]
    together, _ = fit(torch.stack([first, second]) / 10, labels, 4, 1e-2, iterations=500)
    for features, found in zip((first, second), together, strict=True):
        alone, _ = fit(features[None] / 10, labels, 4, 1e-2, iterations=500)
        torch.testing.assert_close(found, alone[0], atol=2e-3 * float(alone.abs().max()), rtol=0)


def halves(make):
    """Return the train, val and test parts of feature sets and labels that `probe` takes."""
    parts = [make(seed) for seed in (0, 1, 2)]
    return [value for sets, labels in parts for value in (sets, labels)]


def test_separable_features_are_read_completely_and_noise_at_chance():
    def make(seed):
        labels = torch.arange(400) % 4
        noise = normal(400, 9, seed=seed, dtype=torch.float32)
        separable = torch.cat([torch.nn.functional.one_hot(labels, 4) + 0.01 * noise[:, :4], noise], 1)
        return {"separable": separable, "noise": noise}, labels

    found = probe(*halves(make), PENALTIES, 50)
    assert list(found) == ["separable", "noise"]
    assert (found["separable"].test_top1, found["separable"].val_top1) == (100.0, 100.0)
    assert 15 < found["noise"].test_top1 < 35


def test_scale_shift_and_dead_features_change_nothing():
    def make(seed):
        features, labels = clusters(240, 4, 8, 1.0, seed)
        dead = torch.full((240, 3), 5.0)
        return {"plain": features, "changed": torch.cat([1000 * features + 7, dead], 1)}, labels

    found = probe(*halves(make), PENALTIES, 200)
    assert abs(found["plain"].test_top1 - found["changed"].test_top1) <= 100 / 240 + 1e-9
    assert found["plain"].test_top1 > 60


def test_validation_images_choose_the_penalty_and_test_images_do_not():
    def make(seed):
        features, labels = clusters(60, 3, 50, 4.0, seed)
        return {"a": features}, labels

    train, train_labels, val, val_labels, test, test_labels = halves(make)
    found = probe(train, train_labels, val, val_labels, test, test_labels, PENALTIES, 100)["a"]
    single = {p: probe(train, train_labels, val, val_labels, test, test_labels, [p], 500)["a"] for p in PENALTIES}
    best = max(result.val_top1 for result in single.values())
    assert found.penalty == next(p for p in PENALTIES if single[p].val_top1 == best)
    shuffled = probe(train, train_labels, val, val_labels, test, test_labels.flip(0), PENALTIES, 100)["a"]
    assert (shuffled.penalty, shuffled.val_top1) == (found.penalty, found.val_top1)
