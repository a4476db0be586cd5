import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data.splits import balanced_subset, train_val_split

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 30))


def counts(indices, labels=LABELS):
    return np.bincount(labels[indices], minlength=10)


@pytest.mark.parametrize("size", [10, 50, 100, 299, 300])
def test_subset_is_sorted_unique_and_balanced(size):
    chosen = balanced_subset(LABELS, size, seed=0)
    assert chosen.dtype == np.int64 and len(chosen) == size
    assert np.all(np.diff(chosen) > 0) and np.ptp(counts(chosen)) == (size % 10 != 0)


def test_subset_depends_on_the_seed_alone():
    assert np.array_equal(balanced_subset(LABELS, 57, 3), balanced_subset(LABELS.tolist(), 57, 3))
    assert not np.array_equal(balanced_subset(LABELS, 57, 3), balanced_subset(LABELS, 57, 4))


def test_subset_of_known_seed():
    # Fixed values: a change here means that all finished runs were trained on other images.
    assert balanced_subset(np.arange(12) % 3, 6, seed=0).tolist() == [2, 3, 4, 6, 7, 8]
    assert train_val_split(np.arange(12) % 3, 3, seed=0)[1].tolist() == [2, 4, 9]


def test_subsets_of_one_seed_are_nested():
    subsets = [set(balanced_subset(LABELS, size, 1)) for size in (10, 33, 100, 251, 300)]
    assert all(small < large for small, large in zip(subsets, subsets[1:], strict=False))


def test_the_odd_images_go_to_random_classes():
    favoured = [np.flatnonzero(counts(balanced_subset(LABELS, 11, seed)) == 2).item() for seed in range(40)]
    assert len(set(favoured)) > 5


def test_subset_draws_from_the_whole_class():
    taken = np.concatenate([balanced_subset(LABELS, 30, seed) for seed in range(60)])
    assert len(np.unique(taken)) == 300  # an image is never drawn with probability 0.9 ** 60


def test_a_short_class_gives_all_it_has():
    labels = np.repeat([0, 1, 2], [2, 20, 20])
    assert np.bincount(labels[balanced_subset(labels, 22, 0)]).tolist() == [2, 10, 10]


@pytest.mark.parametrize("size", [-1, 0, 9, 301])
def test_impossible_subset(size):
    with pytest.raises(UsageError, match="cannot be drawn evenly from 10 classes with 300 images.*between 10 and 300"):
        balanced_subset(LABELS, size, 0)


@pytest.mark.parametrize("size", [0, 10, 40, 123])
def test_split_partitions(size):
    train, val = train_val_split(LABELS, size, seed=5)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(300))
    assert len(val) == size and np.ptp(counts(val)) <= 1 and np.ptp(counts(train)) <= 1
    assert train.dtype == val.dtype == np.int64 and np.all(np.diff(train) > 0) and np.all(np.diff(val) > 0)


def test_split_is_not_the_subset_of_the_same_seed():
    assert not np.array_equal(train_val_split(LABELS, 100, 0)[1], balanced_subset(LABELS, 100, 0))


@pytest.mark.parametrize(("size", "says"), [(-5, "cannot be drawn evenly"), (295, "a class without training images")])
def test_impossible_split(size, says):
    with pytest.raises(UsageError, match=says):
        train_val_split(LABELS, size, 0)
