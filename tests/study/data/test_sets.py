import hashlib
import os
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data.sets import CHUNK, area_average, load


def test_official_files(tiny_registry, tiny100, tmp_path, monkeypatch):
    tiny100.write(tmp_path)
    monkeypatch.setenv("CDS_DATA_ROOT", str(tmp_path))
    data = load("cifar100", None, "real")
    provenance = dict(data.provenance)
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    fingerprint = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()  # the documented hash
    assert "every checksum the published one" in provenance.pop("note")
    checked = {"kind": "official", "complete": True, "verified": True}
    assert provenance == checked | {"train": 200, "test": 100, "sha256": fingerprint}
    assert data.train_images.shape == (200, 3, 32, 32)
    assert data.train_labels.dtype == np.int64 and len(data.class_names) == 100


def test_repacked_and_shortened_files_are_allowed_but_never_called_verified(tiny_registry, tiny100, tmp_path):
    folder = tiny100.write(tmp_path)
    verified = load("cifar100", tmp_path, "real").provenance
    content = tiny100.contents["train"]
    (folder / "train").write_bytes(pickle.dumps(content))
    provenance = load("cifar100", tmp_path, "real").provenance
    assert provenance["complete"] and not provenance["verified"]
    assert provenance["note"].endswith("complete, checksum not the published one: train")
    assert provenance["sha256"] == verified["sha256"]  # the same images and labels
    few = content | {"data": content["data"][:150], "fine_labels": content["fine_labels"][:150]}
    (folder / "train").write_bytes(pickle.dumps(few))
    provenance = load("cifar100", tmp_path, "real").provenance
    assert (provenance["complete"], provenance["verified"], provenance["train"]) == (False, False, 150)
    assert "a subset (100 of 100 classes, 150 of 200 training, 100 of 100 test images)" in provenance["note"]


def test_missing_data_says_what_to_run(tiny_registry, tmp_path):
    with pytest.raises(UsageError) as caught:
        load("cifar100", tmp_path, "real")
    assert f"python -m cds_lib data fetch cifar100 --data-root {tmp_path}" in str(caught.value)
    assert "python -m cds_lib data import cifar100 --folder FOLDER" in str(caught.value)
    (tmp_path / "cifar100" / "train").mkdir(parents=True)
    command = f"data import cifar100 --folder {tmp_path / 'cifar100'} --data-root {tmp_path}"
    with pytest.raises(UsageError, match=re.escape(command)):
        load("cifar100", tmp_path, "real")


def test_smaller_images_keep_labels_and_fingerprint(tiny_registry, tiny100, tmp_path):
    tiny100.write(tmp_path)
    full, half = load("cifar100", tmp_path, "real"), load("cifar100", tmp_path, "real", 16)
    assert half.train_images.shape == (200, 3, 16, 16) and half.test_images.shape == (100, 3, 16, 16)
    assert half.provenance == full.provenance and np.array_equal(half.train_labels, full.train_labels)
    same = load("cifar100", tmp_path, "real", 32)
    assert np.array_equal(same.train_images, full.train_images)


@pytest.mark.parametrize("size", [0, -16, 33, 64])
def test_a_size_that_the_images_do_not_have(tiny_registry, tiny100, tmp_path, size):
    tiny100.write(tmp_path)
    with pytest.raises(UsageError, match=f"images of 32 x 32 cannot be averaged to {size} x {size}"):
        load("cifar100", tmp_path, "real", size)


def test_unknown_name_and_source(tiny_registry, tmp_path):
    with pytest.raises(UsageError, match="unknown data set 'mnist'"):
        load("mnist", tmp_path, "real")
    with pytest.raises(UsageError, match="unknown data source 'fake'; choose standin or real"):
        load("cifar100", tmp_path, "fake")


@pytest.mark.parametrize("size", [1, 8, 16, 20, 24, 31])
def test_area_average_is_the_exact_mean_of_the_square_covered_rounded_halves_up(size):
    """In units of 1 / (S * size) of a side, a pixel of the result covers S units, a pixel of the image `size` units."""
    images = np.random.default_rng(size).integers(256, size=(7, 3, 32, 32), dtype=np.uint8)
    starts, ends = np.arange(size)[:, None] * 32, np.arange(32) * size
    covered = np.clip(np.minimum(starts + 32, ends + size) - np.maximum(starts, ends), 0, None)
    sums = covered @ images.astype(int) @ covered.T
    assert np.array_equal(area_average(images, size), (2 * sums + 32**2) // (2 * 32**2))


def test_area_average_works_across_chunks_in_bounded_memory():
    images = np.random.default_rng(0).integers(256, size=(2 * CHUNK + 5, 3, 8, 8), dtype=np.uint8)
    tracemalloc.start()
    result = area_average(images, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(result[-3:], area_average(images[-3:], 4))
    assert peak < result.nbytes + 8 * images[:CHUNK].nbytes


def test_area_average_of_extremes_and_odd_shapes():
    assert area_average(np.array([[0, 0], [1, 1]], np.uint8).reshape(1, 1, 2, 2), 1).item() == 1  # 0.5 is rounded up
    assert area_average(np.full((2, 3, 256, 256), 255, np.uint8), 1).tolist() == [[[[255]]] * 3] * 2
    images = np.zeros((1, 3, 32, 32), np.uint8)
    assert area_average(images, 32) is images
    with pytest.raises(UsageError, match="images of 32 x 16 cannot be averaged to 16 x 16"):
        area_average(images[..., :16], 16)


def test_real_cifar100():
    """Check the counts and the commonly published mean and deviation of the pixels; needs the real images."""
    root = os.environ.get("CDS_TEST_DATA_ROOT")
    if not root or not (Path(root) / "cifar-100-python").is_dir():
        pytest.skip("CDS_TEST_DATA_ROOT names no folder with the real CIFAR-100")
    data = load("cifar100", Path(root), "real")
    assert data.provenance["complete"] and data.class_names[:: len(data.class_names) - 1] == ("apple", "worm")
    assert set(np.bincount(data.train_labels)) == {500} and set(np.bincount(data.test_labels)) == {100}
    levels = np.arange(256) / 255
    histograms = [np.bincount(data.train_images[:, c].ravel(), minlength=256) for c in range(3)]
    means = [np.average(levels, weights=histogram) for histogram in histograms]
    squares = [np.average(levels**2, weights=histogram) for histogram in histograms]
    assert np.allclose(means, [0.50708, 0.48655, 0.44092], atol=1e-5)
    assert np.allclose(np.sqrt(squares - np.square(means)), [0.26733, 0.25644, 0.27615], atol=1e-5)
