import codecs
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar, folders, layouts
from toys import Evil


@pytest.fixture(params=["tiny10", "tiny100"])
def tiny(request):
    return request.getfixturevalue(request.param)


def pixels(tiny, part):
    return np.concatenate([tiny.contents[f.name]["data"] for f in tiny.entry.files if f.part == part]).reshape(
        -1, 3, 32, 32
    )


def labels(tiny, part):
    key = "labels" if tiny.entry.name == "cifar10" else "fine_labels"
    return [label for f in tiny.entry.files if f.part == part for label in tiny.contents[f.name][key]]


def check(tiny, arrays, by_name):
    """Check the arrays. by_name: whether images must be sorted by class and file name."""
    for part, images, found in (("train", *arrays[:2]), ("test", *arrays[2:4])):
        kept = labels(tiny, part)
        order = sorted(range(len(kept)), key=lambda i: (kept[i], f"image_{i}.png") if by_name else i)
        assert np.array_equal(images, pixels(tiny, part)[order]) and found.tolist() == [kept[i] for i in order]
    assert arrays.train_labels.dtype == arrays.test_labels.dtype == np.int64
    assert arrays.class_names[:2] == ("class_00", "class_01") and len(arrays.class_names) == tiny.entry.classes
    for images in arrays[0], arrays[2]:
        assert images.flags.c_contiguous and images.flags.writeable and images.dtype == np.uint8


def test_reads_what_python_2_wrote(tiny, tmp_path):
    tiny.write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy deprecates content of old pickles
        check(tiny, layouts.read(tiny.entry, tmp_path), by_name=tiny.entry.name == "cifar100")
    assert not tiny.entry.unpublished(tmp_path)


KINDS = [list, np.array, lambda x: [np.int64(i) for i in x], tuple]
COPIES = [("tiny100", protocol, kind) for protocol in (2, 5) for kind in KINDS] + [("tiny10", 5, list)]


@pytest.mark.parametrize(("tiny", "protocol", "kind"), COPIES, indirect=["tiny"])
def test_reads_copies_written_by_python_3(tiny, tmp_path, protocol, kind):
    """Protocol 5 restores read-only arrays as read-only. torch warns about them, so they are copied."""
    folder = tiny.write(tmp_path)
    for name, content in tiny.contents.items():
        plain = {key: value for key, value in content.items() if key not in ("coarse_labels", "filenames")}
        for key in plain.keys() & {"labels", "fine_labels"}:
            data = plain["data"].copy()
            data.flags.writeable = False
            plain |= {key: kind(plain[key]), "data": data}
        (folder / name).write_bytes(pickle.dumps(plain, protocol))
    check(tiny, layouts.read(tiny.entry, tmp_path), by_name=False)  # the copies have no file names
    assert [*tiny.entry.unpublished(tmp_path)] == [*tiny.files]


def test_an_import_of_the_images_is_the_same_set(tiny100, tmp_path):
    """A run on either is the same run: `reproduce` and `compare` need the same images in the same order."""
    tiny100.write(tmp_path)
    for part in ("train", "test"):
        for i, (image, label) in enumerate(zip(pixels(tiny100, part), labels(tiny100, part), strict=True)):
            path = tmp_path / "png" / part / f"class_{label:02d}" / f"image_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    imported = folders.import_folder(tiny100.entry, tmp_path / "png", tmp_path)
    assert imported["sha256"] == layouts.read(tiny100.entry, tmp_path).fingerprint()


OBJECTS = [np.zeros(1, kind) for kind in ("O", "V8", "M8[s]", "i4,O", "c8")]
OBJECTS += [{1, 2}, Path("x"), eval, np.load, Evil(np.dtype, [("a", "O")])]


@pytest.mark.parametrize("file", ["train", "meta"])
def test_refuses_every_other_object_and_runs_nothing(tiny100, tmp_path, file):
    folder = tiny100.write(tmp_path)
    for extra in [*OBJECTS, Evil(codecs.encode, "text", "rot13"), Evil(os.mkdir, str(tmp_path / "was run"))]:
        (folder / file).write_bytes(pickle.dumps(tiny100.contents[file] | {"extra": extra}, 2))
        with pytest.raises(UsageError, match=f"{file} cannot be read .it asks for"):
            layouts.read(tiny100.entry, tmp_path)
    assert not (tmp_path / "was run").exists()


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
        {"fine_labels": [*GOOD, 0]},
        {"fine_labels": 7},
        {"fine_labels": [0.5] * 200},
        {"fine_labels": [[0], [1, 2]] * 100},
        {"fine_labels": [*GOOD[:-1], 100]},
        {"fine_labels": [*GOOD[:-1], -1]},
        {"fine_labels": [label or 1 for label in list(range(100)) * 2]},  # no image of class 0
    ],
)
def test_wrong_content(tiny100, tmp_path, changes):
    folder = tiny100.write(tmp_path)
    content = {k: v for k, v in (tiny100.contents["train"] | changes).items() if v is not None}
    (folder / "train").write_bytes(pickle.dumps(content))
    with pytest.raises(UsageError, match=r"python -m cds_lib data fetch cifar100`\.$") as caught:
        layouts.read(tiny100.entry, tmp_path)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a page": lambda data: b"<html>not found</html>",
    "a list": lambda data: pickle.dumps([1, 2]),
    "of another set": lambda data: pickle.dumps({"fine_label_names": ["a"] * 99}),
    "missing": None,
}


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files(tiny100, tmp_path, name, damage):
    folder = tiny100.write(tmp_path)
    (folder / name).unlink()
    if damage:
        (folder / name).write_bytes(damage(tiny100.files[name]))
    named = folder if damage is DAMAGE["of another set"] and name == "meta" else folder / name
    with pytest.raises(UsageError, match=rf"{named} .*run `python -m cds_lib data fetch"):
        layouts.read(tiny100.entry, tmp_path)


def read_test_batch(entry, folder, content):
    (folder / "test").write_bytes(content)
    try:
        found = cifar.read(entry, folder)
    except UsageError as error:
        assert str(folder / "test") in str(error)
        return False
    assert found.test_images.dtype == np.uint8 and found.test_labels.dtype == np.int64
    assert found.test_images.shape == (len(found.test_labels), 3, 32, 32)
    return True


@st.composite
def damaged(draw, whole):
    """Draw a truncated file, or one with a few changed bytes."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def test_damaged_batches(tmp_path, tiny100):
    batch, folder = tiny100.contents["test"], tiny100.write(tmp_path)
    small = {b"data": batch["data"][:2], b"fine_labels": batch["fine_labels"][:2]}
    seen = set()

    @settings(max_examples=60)
    @given(damaged(st.integers(0, 5).map(lambda protocol: pickle.dumps(small, protocol))))
    def check(content):
        seen.add(read_test_batch(tiny100.entry, folder, content))

    check()
    assert seen == {True, False}
