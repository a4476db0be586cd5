import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data import registry, standin
from cds_lib.study.data.sets import load


@pytest.fixture(scope="module")
def hundred():
    return standin.make(100)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_load_makes_the_class_count_of_the_set(name):
    data, known = load(name, None, "standin"), registry.entry(name)
    assert data.train_images.shape == (2000, 3, 32, 32) and data.test_images.shape == (1000, 3, 32, 32)
    assert np.bincount(data.train_labels).tolist() == [2000 // known.classes] * known.classes
    assert np.bincount(data.test_labels).tolist() == [1000 // known.classes] * known.classes
    assert len(set(data.class_names)) == known.classes
    assert data.train_labels.dtype == np.int64 and data.train_images.flags.c_contiguous
    provenance = data.provenance
    assert (provenance["kind"], provenance["complete"], provenance["verified"]) == ("standin", False, False)
    assert "mean nothing" in provenance["note"] and provenance["train"] == 2000


@pytest.mark.parametrize(
    "classes, size, train, test", [(2, 8, 2, 3), (25, 33, 60, 25), (196, 20, 392, 196), (3, 500, 3, 3)]
)
def test_any_class_count_and_split_size(classes, size, train, test):
    data = standin.make(classes, size, train, test)
    assert data.train_images.shape == (train, 3, size, size) and data.test_images.shape == (test, 3, size, size)
    for labels in (data.train_labels, data.test_labels):
        counts = np.bincount(labels, minlength=classes)
        assert counts.min() >= 1 and np.ptp(counts) <= 1
    assert len(set(data.class_names)) == len(data.class_names) == classes


def test_the_same_arguments_give_the_same_bytes(hundred):
    assert hundred.fingerprint() == standin.make(100).fingerprint()


def test_labels_and_digits_of_the_first_images_are_fixed(hundred):
    # Fixed values: a change here changes every run on stand-in images. Labels do not depend on the JPEG decoder.
    assert hundred.train_labels[:8].tolist() == [33, 77, 82, 37, 60, 38, 2, 54]
    assert hundred.test_labels[:8].tolist() == [81, 31, 88, 35, 7, 87, 82, 72]


@pytest.fixture
def drawn(monkeypatch):
    """Return a function of one value per scan that records the values of the scans drawn for train and test."""
    scans, digits = standin.load_scans()

    def make(values, classes):
        used, marked = [], np.broadcast_to(values[:, None, None], scans.shape)
        monkeypatch.setattr(standin, "load_scans", lambda: (marked, digits))
        monkeypatch.setattr(
            standin, "_place", lambda scans, *_: used.append(scans[:, 0, 0]) or np.zeros((1, 1, 1), int)
        )
        return standin.make(classes), used

    return digits, make


def test_training_and_test_images_come_from_different_scans_of_their_digit(drawn):
    digits, make = drawn
    early = np.zeros(len(digits), int)
    for digit in range(10):
        members = np.flatnonzero(digits == digit)
        early[members[: len(members) * 2 // 3]] = 1
    _, (train, test) = make(early, 10)
    assert train.all() and not test.any()
    data, (train, test) = make(digits, 100)
    assert np.array_equal(train, data.train_labels % 10) and np.array_equal(test, data.test_labels % 10)


def test_construction_is_the_absolute_difference(monkeypatch):
    """Ink of value 0 leaves the background; full ink inverts it (up to the noise of 8 levels)."""
    shape = {"ink": 0}
    monkeypatch.setattr(
        standin, "_place", lambda chosen, size, random: np.full((len(chosen), size, size), shape["ink"], np.int16)
    )
    plain = standin.make(10).train_images.astype(int)
    shape["ink"] = 255
    inverted = standin.make(10).train_images.astype(int)
    assert np.abs(plain + inverted - 255).max() <= 16 and plain.std() > 30


def test_classes_are_learnable_but_not_trivial(hundred):
    """The nearest class mean on pixels is many times better than chance and far from perfect."""
    train, test = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (hundred.train_images, hundred.test_images))
    means = np.stack([train[hundred.train_labels == c].mean(axis=0) for c in range(100)])
    distance = (means**2).sum(axis=1) - 2 * test @ means.T
    accuracy = (distance.argmin(axis=1) == hundred.test_labels).mean()
    assert 0.08 < accuracy < 0.6


@pytest.mark.parametrize("arguments", [(1,), (100, 7), (100, 32, 99, 1000), (100, 32, 2000, 99)])
def test_impossible_requests(arguments):
    with pytest.raises(UsageError, match="two classes, a size of 8 and one image a class"):
        standin.make(*arguments)
