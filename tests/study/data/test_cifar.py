import dataclasses
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar, registry


@pytest.fixture(params=["cifar10", "cifar100"])
def tiny(request, tiny10, tiny100):
    return {"cifar10": tiny10, "cifar100": tiny100}[request.param]


def pixels(tiny, part):
    return np.concatenate([tiny.contents[f.path]["data"] for f in tiny.entry.part(part)]).reshape(-1, 3, 32, 32)


def labels(tiny, part):
    key = "labels" if tiny.entry.name == "cifar10" else "fine_labels"
    return [label for f in tiny.entry.part(part) for label in tiny.contents[f.path][key]]


def check(tiny, arrays):
    assert np.array_equal(arrays.train_images, pixels(tiny, "train"))
    assert np.array_equal(arrays.test_images, pixels(tiny, "test"))
    assert arrays.train_labels.tolist() == labels(tiny, "train") and arrays.test_labels.tolist() == labels(tiny, "test")
    assert arrays.train_labels.dtype == arrays.test_labels.dtype == np.int64
    assert arrays.class_names[:2] == ("class_00", "class_01") and len(arrays.class_names) == tiny.entry.classes
    for images in arrays[0], arrays[2]:
        assert images.flags.c_contiguous and images.flags.writeable and images.dtype == np.uint8


def test_reads_what_python_2_wrote(tiny, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy deprecates what old pickles hold
        arrays, unpublished = cifar.read(tiny.entry, tiny.write(tmp_path))
    check(tiny, arrays)
    assert unpublished == ()


def test_the_tiny_files_are_of_the_official_kind(tiny):
    """torchvision's way of reading the official files reads them too."""
    for file in tiny.entry.part("train"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # see above
            content = pickle.loads(tiny.files[file.path], encoding="latin1")
        assert np.array_equal(content["data"], tiny.contents[file.path]["data"])
    assert b"numpy.core.multiarray" in tiny.files[tiny.entry.part("train")[0].path]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_reads_copies_written_by_python_3(tiny, tmp_path, protocol):
    folder = tiny.write(tmp_path)
    for name, content in tiny.contents.items():
        plain = {key: value for key, value in content.items() if key not in ("coarse_labels", "filenames")}
        (folder / name).write_bytes(pickle.dumps(plain, protocol))
    arrays, unpublished = cifar.read(tiny.entry, folder)
    check(tiny, arrays)
    assert unpublished == tuple(tiny.files)


@pytest.mark.parametrize("kind", [np.array, lambda x: [np.int64(i) for i in x], tuple])
@pytest.mark.parametrize("protocol", [2, 4])
def test_labels_may_be_arrays_or_numpy_scalars(tiny100, tmp_path, kind, protocol):
    folder = tiny100.write(tmp_path)
    content = tiny100.contents["train"] | {"fine_labels": kind(tiny100.contents["train"]["fine_labels"])}
    (folder / "train").write_bytes(pickle.dumps(content, protocol))
    arrays, unpublished = cifar.read(tiny100.entry, folder)
    check(tiny100, arrays)
    assert unpublished == ("train",)


def test_read_only_pixels_are_copied(tiny100, tmp_path):
    """Protocol 5 brings read-only arrays back read-only, which torch warns about."""
    folder = tiny100.write(tmp_path)
    data = tiny100.contents["train"]["data"].copy()
    data.flags.writeable = False
    written = pickle.dumps(tiny100.contents["train"] | {"data": data}, 5)
    assert not pickle.loads(written)["data"].flags.writeable
    (folder / "train").write_bytes(written)
    check(tiny100, cifar.read(tiny100.entry, folder)[0])


class EvilCodec:
    def __reduce__(self):
        import codecs

        return codecs.encode, ("text", "rot13")


class EvilDtype:
    def __reduce__(self):
        return np.dtype, ([("a", "O")],)


@pytest.mark.parametrize("evil", [EvilCodec(), EvilDtype(), {1, 2}, Path("x"), eval, np.load])
def test_refuses_every_other_object(tiny100, tmp_path, evil):
    folder = tiny100.write(tmp_path)
    (folder / "train").write_bytes(pickle.dumps(tiny100.contents["train"] | {"extra": evil}, 2))
    with pytest.raises(UsageError, match="train cannot be read .it asks for"):
        cifar.read(tiny100.entry, folder)


def test_nothing_in_a_file_is_run(tiny100, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    folder = tiny100.write(tmp_path)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [Evil()]}))
    with pytest.raises(UsageError, match="meta cannot be read .it asks for .*mkdir, which no CIFAR file needs"):
        cifar.read(tiny100.entry, folder)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_refused(tiny100, tmp_path, part):
    folder = tiny100.write(tmp_path)
    content = tiny100.contents[part]
    labels = [label or 1 for label in content["fine_labels"]]  # those of class 0 are of class 1
    (folder / part).write_bytes(pickle.dumps(content | {"fine_labels": labels}))
    with pytest.raises(UsageError, match=f"has no {part} images of class_00; move the folder .* away"):
        cifar.read(tiny100.entry, folder)


GOOD = [0] * 200


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"fine_labels": None},
        {"data": np.zeros((200, 3071), np.uint8)},
        {"data": np.zeros((200, 3072), np.float32)},
        {"data": np.zeros((200, 3, 32, 32), np.uint8)},
        {"data": [1, 2]},
        {"data": np.zeros((0, 3072), np.uint8), "fine_labels": []},
        {"fine_labels": GOOD[:-1]},
        {"fine_labels": [*GOOD, 0]},
        {"fine_labels": 7},
        {"fine_labels": [0.5] * 200},
        {"fine_labels": ["a"] * 200},
        {"fine_labels": [[0], [1, 2]] * 100},
        {"fine_labels": [*GOOD[:-1], 100]},
        {"fine_labels": [*GOOD[:-1], -1]},
    ],
)
def test_wrong_content(tiny100, tmp_path, changes):
    folder = tiny100.write(tmp_path)
    content = {k: v for k, v in (tiny100.contents["train"] | changes).items() if v is not None}
    (folder / "train").write_bytes(pickle.dumps(content))
    with pytest.raises(UsageError) as caught:
        cifar.read(tiny100.entry, folder)
    text = str(caught.value)
    assert text.startswith(str(folder / "train")) and "python -m cds_lib data fetch cifar100" in text
    assert text.endswith(".") and "\n" not in text


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"<html>not found</html>",
        lambda data: pickle.dumps([1, 2]),
        None,
    ],
)
def test_damaged_files(tiny100, tmp_path, name, damage):
    folder = tiny100.write(tmp_path)
    if damage:
        (folder / name).write_bytes(damage(tiny100.files[name]))
    else:
        (folder / name).unlink()
    with pytest.raises(UsageError) as caught:
        cifar.read(tiny100.entry, folder)
    text = str(caught.value)
    assert text.startswith(str(folder / name)) and "run `python -m cds_lib data fetch" in text


@pytest.mark.parametrize("content", [{"fine_label_names": ["a"] * 99}, {"label_names": ["a"] * 100}])
def test_meta_of_another_set(tiny100, tmp_path, tools, content):
    folder = tiny100.write(tmp_path)
    (folder / "meta").write_bytes(tools.python2_pickle(content))
    with pytest.raises(UsageError, match="meta must name 100 classes"):
        cifar.read(tiny100.entry, folder)


def test_faults_lists_every_file(tiny100, tmp_path):
    folder = tiny100.write(tmp_path)
    assert cifar.faults(tiny100.entry, folder) == []
    (folder / "train").write_bytes(tiny100.files["train"][:100])
    (folder / "test").unlink()
    (folder / "meta").write_bytes(pickle.dumps(tiny100.contents["meta"]))
    train, test, meta = cifar.faults(tiny100.entry, folder)
    assert "train cannot be read" in train and "test is missing" in test
    assert "meta: checksum not the published one" in meta and tiny100.entry.part("meta")[0].md5 in meta


def test_real_cifar100_has_the_known_statistics():
    """Channel means and standard deviations of the official training set; needs the real images."""
    if not os.environ.get("CDS_TEST_DATA_ROOT"):
        pytest.skip("CDS_TEST_DATA_ROOT names no folder with the real CIFAR-100")
    known = registry.entry("cifar100")
    folder = Path(os.environ["CDS_TEST_DATA_ROOT"]) / known.folder
    if not folder.is_dir():
        pytest.skip(f"there is no {known.folder} in CDS_TEST_DATA_ROOT")
    arrays, _ = cifar.read(known, folder)
    assert arrays.train_images.shape == (50000, 3, 32, 32) and arrays.test_images.shape == (10000, 3, 32, 32)
    assert np.bincount(arrays.train_labels).tolist() == [500] * 100
    assert np.bincount(arrays.test_labels).tolist() == [100] * 100
    assert arrays.class_names[0] == "apple" and arrays.class_names[-1] == "worm"
    histograms = [np.bincount(arrays.train_images[:, c].ravel(), minlength=256) for c in range(3)]
    levels = np.arange(256) / 255
    means = [(h * levels).sum() / h.sum() for h in histograms]
    stds = [np.sqrt((h * (levels - m) ** 2).sum() / h.sum()) for h, m in zip(histograms, means, strict=True)]
    assert np.allclose(means, [0.50708, 0.48655, 0.44092], atol=1e-5)
    assert np.allclose(stds, [0.26733, 0.25644, 0.27615], atol=1e-5)


def test_entry_of_another_side_is_respected(tiny100, tmp_path):
    entry = dataclasses.replace(tiny100.entry, image_size=16)
    with pytest.raises(UsageError, match="rows of 768 bytes"):
        cifar.read(entry, tiny100.write(tmp_path))
