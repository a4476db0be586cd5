import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import registry, sets
from cds_lib.study.data.arrays import fingerprint
from cds_lib.study.data.folders import import_folder, read_imported
from cds_lib.study.data.writing import single_writer

CLASSES = ("bird", "cat", "dog")


@pytest.fixture
def entry():
    """A set of three classes, 9 training and 3 test images."""
    return dataclasses.replace(registry.entry("cifar10"), classes=3, train=9, test=3)


def image(split, label, number):
    return np.random.default_rng([len(split), label, number]).integers(256, size=(32, 32, 3), dtype=np.uint8)


def write_folder(folder, classes=CLASSES, per_class=(3, 1), test="test"):
    for split, count in zip(("train", test), per_class, strict=True):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(image(split, label, number)).save(folder / split / name / f"{number}.png")
    return folder


def nothing_left(root):
    return not (root / "imported").exists() or list((root / "imported").iterdir()) == []


def test_complete_import(entry, tmp_path):
    root = tmp_path / "data"
    info = import_folder(entry, write_folder(tmp_path / "held"), root)
    arrays, read = read_imported(entry, root)
    assert info == read and info["complete"] is True and (info["train"], info["test"]) == (9, 3)
    assert info["sha256"] == fingerprint(arrays)
    assert arrays.class_names == CLASSES
    assert arrays.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and arrays.test_labels.tolist() == [0, 1, 2]
    expected = np.stack([image("train", label, number) for label in range(3) for number in range(3)])
    assert np.array_equal(arrays.train_images, expected.transpose(0, 3, 1, 2))
    assert np.array_equal(arrays.test_images[2], image("test", 2, 0).transpose(2, 0, 1))
    assert arrays.train_images.flags.writeable and arrays.train_images.flags.c_contiguous
    files = sorted(p.name for p in (root / "imported" / "cifar10").iterdir())
    assert files == ["info.json", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]
    assert sorted(p.name for p in (root / "imported").iterdir()) == ["cifar10"]


def test_subset_is_recorded_as_subset(entry, tmp_path):
    info = import_folder(entry, write_folder(tmp_path / "held", classes=("cat", "dog"), per_class=(2, 1)), tmp_path)
    assert (info["complete"], info["train"], info["test"], info["class_names"]) == (False, 4, 2, ["cat", "dog"])


def test_val_stands_for_test(entry, tmp_path):
    import_folder(entry, write_folder(tmp_path / "held", test="val"), tmp_path)
    assert len(read_imported(entry, tmp_path)[0].test_labels) == 3


def test_other_modes_become_rgb(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    grey = Image.fromarray(image("train", 0, 0)).convert("L")
    grey.save(held / "train" / "bird" / "0.png")
    Image.fromarray(image("train", 0, 1)).quantize(4).save(held / "train" / "bird" / "1.png")
    import_folder(entry, held, tmp_path)
    arrays, _ = read_imported(entry, tmp_path)
    assert np.array_equal(arrays.train_images[0], np.stack([np.asarray(grey)] * 3))
    assert len(np.unique(arrays.train_images[1].reshape(3, -1), axis=1).T) <= 4


def test_images_of_file_managers_are_passed_over(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    for name in (".DS_Store", "train/.hidden", "train/cat/.DS_Store", "train/cat/Thumbs.db", "train/README.txt"):
        (held / name).write_bytes(b"x")
    (held / "test" / ".ipynb_checkpoints").mkdir()
    assert import_folder(entry, held, tmp_path)["complete"]


def test_broken_images_are_named_and_counted_never_skipped(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    (held / "train" / "cat" / "1.png").write_bytes(b"not an image")
    (held / "train" / "dog" / "2.png").write_bytes((held / "train" / "dog" / "1.png").read_bytes()[:200])
    Image.new("RGB", (32, 31)).save(held / "test" / "bird" / "0.png")
    with pytest.raises(UsageError) as caught:
        import_folder(entry, held, tmp_path)
    text = str(caught.value)
    assert "3 of 12 images cannot be used" in text and "repair or remove them" in text
    assert "train/cat/1.png: cannot be decoded" in text and "train/dog/2.png: cannot be decoded" in text
    assert "test/bird/0.png: is 32 x 31, not 32 x 32" in text
    assert nothing_left(tmp_path)


def test_only_the_first_broken_images_are_listed(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    for path in held.glob("train/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(UsageError, match="9 of 12 .*and 4 more") as caught:
        import_folder(entry, held, tmp_path)
    assert str(caught.value).count("cannot be decoded") == 5


def test_missing_parts(entry, tmp_path):
    with pytest.raises(UsageError, match="there is no .*train"):
        import_folder(entry, tmp_path / "nowhere", tmp_path)
    held = write_folder(tmp_path / "held")
    os.rename(held / "test", held / "testing")
    with pytest.raises(UsageError, match="there is no .*test or .*val"):
        import_folder(entry, held, tmp_path)
    for name in ("test", "val"):
        (held / name).mkdir()
    with pytest.raises(UsageError, match="both test and val"):
        import_folder(entry, held, tmp_path)


def test_class_folders_must_agree(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    os.rename(held / "test" / "dog", held / "test" / "hound")
    with pytest.raises(UsageError, match="training and test classes differ .dog, hound."):
        import_folder(entry, held, tmp_path)


def test_more_than_the_set_has(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    with pytest.raises(UsageError, match="has 3 class folders, but CIFAR-10 has 2 classes"):
        import_folder(dataclasses.replace(entry, classes=2), held, tmp_path)
    with pytest.raises(UsageError, match="holds 9 files, more than the 8"):
        import_folder(dataclasses.replace(entry, train=8), held, tmp_path)


def test_empty_class(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    for path in (held / "train" / "cat").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="train/cat holds no images"):
        import_folder(entry, held, tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "more", "image"])
def test_what_is_not_named_as_an_image_is_refused_and_what_is_hidden_passed_over(name, entry, tmp_path):
    held = write_folder(tmp_path / "held")
    for hidden in ("._0.png", "Thumbs.db"):
        (held / "train" / "cat" / hidden).write_bytes(b"x")
    (held / "train" / "cat" / name).mkdir()
    with pytest.raises(UsageError, match=rf"train/cat holds what is not named as an image \({name}\); every class"):
        import_folder(entry, held, tmp_path)
    (held / "train" / "cat" / name).rmdir()
    assert import_folder(entry, held, tmp_path)["train"] == 9


def test_never_overwrites(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    import_folder(entry, held, tmp_path)
    with pytest.raises(UsageError, match="was imported before; delete .*imported/cifar10"):
        import_folder(entry, held, tmp_path)


def test_leftovers_of_a_crash_are_cleared(entry, tmp_path):
    stale = tmp_path / "imported" / ".cifar10.building"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    import_folder(entry, write_folder(tmp_path / "held"), tmp_path)
    assert sorted(p.name for p in (tmp_path / "imported").iterdir()) == ["cifar10"]
    assert not (tmp_path / "imported" / "cifar10" / "half").exists()


def test_one_writer_at_a_time(entry, tmp_path):
    held = write_folder(tmp_path / "held")
    with single_writer(tmp_path, "cifar10"), pytest.raises(UsageError, match="is writing"):
        import_folder(entry, held, tmp_path)


def test_nothing_pickled_is_run(entry, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    import_folder(entry, write_folder(tmp_path / "held"), tmp_path)
    np.save(tmp_path / "imported" / "cifar10" / "test_labels.npy", np.array([Evil(), 0, 0]), allow_pickle=True)
    with pytest.raises(UsageError, match="are broken"):
        read_imported(entry, tmp_path)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train_images.npy").unlink(),
        lambda folder: (folder / "test_labels.npy").write_bytes(b""),
        lambda folder: (folder / "info.json").write_text("{"),
        lambda folder: (folder / "info.json").write_text("[]"),
        lambda folder: os.truncate(folder / "train_images.npy", 4000),
        lambda folder: np.save(folder / "train_labels.npy", np.zeros(8, np.int64)),
        lambda folder: np.save(folder / "train_labels.npy", np.zeros(9, np.float32)),
        lambda folder: np.save(folder / "test_images.npy", np.zeros((3, 3, 32, 32), np.float32)),
        lambda folder: np.save(folder / "test_labels.npy", np.array([{}, {}, {}]), allow_pickle=True),
        lambda folder: (folder / "info.json").write_text(json.dumps({"train": 9, "test": 3})),
    ],
)
def test_damaged_arrays_are_an_error(entry, tmp_path, damage):
    import_folder(entry, write_folder(tmp_path / "held"), tmp_path)
    damage(tmp_path / "imported" / "cifar10")
    with pytest.raises(UsageError, match="imported arrays in .* are broken .*import again"):
        read_imported(entry, tmp_path)


@pytest.fixture
def photographs(tmp_path):
    """Images of any size, held as folders, of a set that is listed and not copied."""
    for split, count in (("train", 2), ("val", 1)):
        for label, name in enumerate(("001.Albatross", "002.Auklet")):
            (tmp_path / "held" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((30 + number, 40, 3), 50 + 100 * label, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "held" / split / name / f"{number}.png")
    return tmp_path / "held"


def test_larger_images_are_listed_where_they_lie(photographs, tmp_path):
    root = tmp_path / "data"
    info = import_folder(registry.entry("cub200"), photographs, root)
    assert (info["complete"], info["train"], info["test"]) == (False, 4, 2)
    assert sorted(p.name for p in (root / "imported" / "cub200").iterdir()) == ["info.json", "listing.json"]
    data = sets.load("cub200", root, "real", 16)
    assert data.train_images.shape == (4, 3, 16, 16) and data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.train_images[:, 0, 0, 0].tolist() == [50, 50, 150, 150]
    assert data.provenance["kind"] == "imported" and "a subset (2 of 200 classes" in data.provenance["note"]
    files = sets.load_files("cub200", root)
    assert files.train_images[0] == photographs / "train" / "001.Albatross" / "0.png"
    assert files.class_names == ("001.Albatross", "002.Auklet") and files.test_labels.tolist() == [0, 1]


def test_listed_images_that_changed_or_went_are_found(photographs, tmp_path):
    root = tmp_path / "data"
    import_folder(registry.entry("cub200"), photographs, root)
    path = photographs / "val" / "002.Auklet" / "0.png"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UsageError, match=r"have changed since they were imported; delete .*imported/cub200 and import"):
        sets.load_files("cub200", root)
    path.unlink()
    with pytest.raises(UsageError, match=r"1 of 6 images are missing in .*Auklet/0.png"):
        sets.load_files("cub200", root)


def test_a_damaged_photograph_stops_the_import(photographs, tmp_path):
    path = photographs / "train" / "001.Albatross" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"1 of 6 images cannot be used \(.*1.png: cannot be decoded"):
        import_folder(registry.entry("cub200"), photographs, tmp_path / "data")
    assert nothing_left(tmp_path / "data")


LISTED = json.dumps({"train": [["a.png", 0], ["b.png", 2]], "test": [["c.png", 0], ["d.png", 1]]})


@pytest.mark.parametrize("content", ["{", "{}", '{"train": [["a"]], "test": []}', LISTED])
def test_a_broken_listing_is_one_sentence(photographs, tmp_path, content):
    root = tmp_path / "data"
    import_folder(registry.entry("cub200"), photographs, root)
    (root / "imported" / "cub200" / "listing.json").write_text(content)
    with pytest.raises(UsageError, match="imported listing in .* is broken .*; delete that folder and import again"):
        sets.load_files("cub200", root)
