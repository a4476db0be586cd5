"""Class folders of images: imported as a whole or a subset, kept as arrays or listed in place, or refused."""

import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import registry, sets
from cds_lib.study.data.folders import import_folder, read_imported
from cds_lib.study.data.registry import single_writer
from toys import Evil, write_images

CLASSES = ("bird", "cat", "dog")


@pytest.fixture
def held(tmp_path):
    """Return a folder with three classes, 9 training and 3 test images of 32 x 32."""
    return write_images(tmp_path / "held", {"train": 3, "test": 1}, CLASSES, image)


def image(split, label, number):
    return np.random.default_rng([len(split), label, number]).integers(256, size=(32, 32, 3), dtype=np.uint8)


@pytest.fixture(params=["cifar10", "cub200"])
def entry(request, monkeypatch):
    """Return an entry for these images, which are kept as arrays or listed."""
    known = dataclasses.replace(registry.entry(request.param), classes=3, train=9, test=3)
    monkeypatch.setattr(sets, "entry", lambda name: known)
    return known


def load(entry, root):
    return sets.load(entry.name, root, "real", 32)


def files_of(entry, root):
    return sorted(path.name for path in (root / "imported" / entry.name).iterdir())


def nothing_left(root):
    return not (root / "imported").exists() or list((root / "imported").iterdir()) == []


def test_complete_import(entry, held, tmp_path):
    root = tmp_path / "data"
    info = import_folder(entry, held, root)
    read, recorded = read_imported(entry, root)
    assert info == recorded and info["complete"] is True and (info["train"], info["test"]) == (9, 3)
    assert info["sha256"] == read.fingerprint()
    data = load(entry, root)
    assert data.provenance["sha256"] == info["sha256"] and data.provenance["kind"] == "imported"
    assert data.class_names == CLASSES
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and data.test_labels.tolist() == [0, 1, 2]
    expected = np.stack([image("train", label, number) for label in range(3) for number in range(3)])
    assert np.array_equal(data.train_images, expected.transpose(0, 3, 1, 2))
    assert np.array_equal(data.test_images[2], image("test", 2, 0).transpose(2, 0, 1))
    assert data.train_images.flags.writeable and data.train_images.flags.c_contiguous
    arrays = ["info.json", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]
    assert files_of(entry, root) == (arrays if entry.image_size else ["info.json", "listing.json"])
    assert os.listdir(root / "imported") == [entry.name]
    if not entry.image_size:
        files = sets.load_files(entry.name, root)
        assert files.train_images[0] == held / "train" / "bird" / "0.png"
        assert files.provenance == data.provenance


def test_a_subset_with_val_for_test_is_recorded_as_a_subset(entry, held, tmp_path):
    for part in ("train", "test"):
        (held / part / "bird").rename(tmp_path / part)
    (held / "test").rename(held / "val")
    info = import_folder(entry, held, tmp_path)
    assert (info["complete"], info["train"], info["test"], info["class_names"]) == (False, 6, 2, ["cat", "dog"])
    assert "a subset (2 of 3 classes, 6 of 9 training, 2 of 3 test" in load(entry, tmp_path).provenance["note"]


def test_other_modes_become_rgb(entry, held, tmp_path):
    grey = Image.fromarray(image("train", 0, 0)).convert("L")
    grey.save(held / "train" / "bird" / "0.png")
    Image.fromarray(image("train", 0, 1)).quantize(4).save(held / "train" / "bird" / "1.png")
    import_folder(entry, held, tmp_path)
    images = load(entry, tmp_path).train_images
    assert np.array_equal(images[0], np.stack([np.asarray(grey)] * 3))
    assert len(np.unique(images[1].reshape(3, -1), axis=1).T) <= 4


def test_what_file_managers_leave_behind_is_passed_over(entry, held, tmp_path):
    for name in (".DS_Store", "train/.hidden", "train/cat/._0.png", "train/cat/Thumbs.db", "train/README.txt"):
        (held / name).write_bytes(b"x")
    (held / "test" / ".ipynb_checkpoints").mkdir()
    assert import_folder(entry, held, tmp_path)["complete"]


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


REFUSED = {  # error message -> change to the folder
    r"must hold train/ .* holds \['test'\]": lambda held: (held / "train").rename(held / "training"),
    r"must hold train/ and either of test/, val/, and holds \['train'\]": lambda held: (held / "test").rename(
        held / "testing"
    ),
    r"holds \['train', 'test', 'val'\]": lambda held: (held / "val").mkdir(),
    r"training and test classes differ \(dog, hound\)": lambda held: (held / "test/dog").rename(held / "test/hound"),
    "train/cat holds no images": lambda held: empty(held / "train/cat"),
    r"train/cat holds what is not named as an image \(notes.txt\)": lambda held: (held / "train/cat/notes.txt").touch(),
    r"train/cat holds what is not named as an image \(more\)": lambda held: (held / "train/cat/more").mkdir(),
    "10 training and 3 test images, but .* has 3, 9 and 3": lambda held: (held / "train/cat/9.png").touch(),
    "4 classes, .* has 3, 9 and 3": lambda held: [
        (held / "train/dog").joinpath(f"{k}.png").rename(held / part / "eel" / "0.png")
        for k, part in enumerate(("train", "test"))
        if not (held / part / "eel").mkdir()
    ],
}


@pytest.mark.parametrize(("says", "change"), REFUSED.items(), ids=REFUSED)
def test_a_folder_that_is_not_the_set_is_refused(says, change, entry, held, tmp_path):
    change(held)
    with pytest.raises(UsageError, match=rf"{says}.*; give the folder that holds train/<class>/ and test/<class>/"):
        import_folder(entry, held, tmp_path)
    assert nothing_left(tmp_path)


def test_broken_images_are_named_and_counted_never_skipped(entry, held, tmp_path):
    (held / "train" / "cat" / "1.png").write_bytes(b"not an image")
    (held / "train" / "dog" / "2.png").write_bytes((held / "train" / "dog" / "1.png").read_bytes()[:200])
    Image.new("RGB", (32, 31)).save(held / "test" / "bird" / "0.png")
    with pytest.raises(UsageError, match=rf"{3 if entry.image_size else 2} of 12 images cannot be used") as caught:
        import_folder(entry, held, tmp_path)
    text = str(caught.value)
    assert "train/cat/1.png: cannot identify" in text and "train/dog/2.png: " in text
    assert ("test/bird/0.png: it is 32 x 31, and has to be 32 x 32" in text) == bool(entry.image_size)
    for path in held.glob("train/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"(9|10) of 12 .*and [45] more") as caught:
        import_folder(entry, held, tmp_path)
    assert str(caught.value).count(".png: ") == 5 and nothing_left(tmp_path)


def test_never_overwrites_clears_what_a_crash_left_and_writes_alone(entry, held, tmp_path):
    stale = tmp_path / "imported" / f".{entry.name}.building"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    with single_writer(tmp_path, entry.name), pytest.raises(UsageError, match="is writing"):
        import_folder(entry, held, tmp_path)
    import_folder(entry, held, tmp_path)
    assert os.listdir(tmp_path / "imported") == [entry.name] and "half" not in files_of(entry, tmp_path)
    with pytest.raises(UsageError, match=f"was imported before; delete .*imported/{entry.name}"):
        import_folder(entry, held, tmp_path)


def test_images_that_changed_or_went_since_are_found(entry, held, tmp_path):
    import_folder(entry, held, tmp_path)
    path = held / "test" / "dog" / "0.png"
    path = tmp_path / "imported" / "cifar10" / "test_images.npy" if entry.image_size else path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if entry.image_size else content + b"x")
    with pytest.raises(UsageError, match=f"have changed since .*; delete .*imported/{entry.name} and import again"):
        load(entry, tmp_path)
    path.unlink()
    gone = "is broken" if entry.image_size else r"1 of 12 images are missing in .*dog/0.png"
    with pytest.raises(UsageError, match=gone):
        load(entry, tmp_path)


TWICE = {"train": [["a.png", 0], ["b.png", 1]], "test": [["a.png", 0], ["d.png", 1]]}
DAMAGE = {
    "cifar10": [
        lambda folder: (folder / "train_images.npy").unlink(),
        lambda folder: (folder / "test_labels.npy").write_bytes(b""),
        lambda folder: (folder / "info.json").write_text("{"),
        lambda folder: (folder / "info.json").write_text("[]"),
        lambda folder: os.truncate(folder / "train_images.npy", 4000),
        lambda folder: np.save(folder / "train_labels.npy", np.zeros(8, np.int64)),
        lambda folder: np.save(folder / "train_labels.npy", np.zeros(9, np.float32)),
        lambda folder: np.save(folder / "test_images.npy", np.zeros((3, 3, 32, 32), np.float32)),
        lambda folder: np.save(
            folder / "test_labels.npy", np.array([Evil(os.mkdir, folder / "was run"), 0, 0]), allow_pickle=True
        ),
        lambda folder: (folder / "info.json").write_text(json.dumps({"train": 9, "test": 3})),
    ],
    "cub200": [
        lambda folder: (folder / "listing.json").unlink(),
        *(
            lambda folder, text=text: (folder / "listing.json").write_text(text)
            for text in ("{", "{}", '{"train": [["a"]], "test": []}', json.dumps(TWICE))
        ),
    ],
}


def test_a_damaged_import_is_one_sentence_and_nothing_in_it_is_run(entry, held, tmp_path):
    folder = tmp_path / "imported" / entry.name
    import_folder(entry, held, tmp_path)
    for damage in DAMAGE[entry.name]:
        before = {path: path.read_bytes() for path in folder.iterdir()}
        damage(folder)
        with pytest.raises(
            UsageError, match="(imported to .* is broken .*|have changed .*); delete .* and import again"
        ):
            load(entry, tmp_path)
        assert not (folder / "was run").exists()
        for path, content in before.items():
            path.write_bytes(content)
    assert load(entry, tmp_path).class_names == CLASSES
