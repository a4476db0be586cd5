"""Each image set in its published layout, as small archives: fetched, unpacked, read, cached, damaged."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cds_lib.errors import UsageError
from cds_lib.study.data import layouts, registry, sets
from cds_lib.study.data.fetch import fetch
from cds_lib.study.data.images import Images

SIDE = 24


def jpeg(label, size=(40, 30)):
    """Return a JPEG of one colour. The red value, which survives compression, encodes the class."""
    stream = io.BytesIO()
    Image.new("RGB", size, (60 + 40 * label, 128, 128)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def mat(**variables):
    stream = io.BytesIO()
    savemat(stream, variables)
    return stream.getvalue()


def cells(values):
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def cub(tar):
    names = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auklet/b_1.jpg", "002.Auklet/b_2.jpg"]
    texts = {
        "images.txt": [f"{k} {name}" for k, name in enumerate(names, 1)],
        "image_class_labels.txt": ["1 1", "2 1", "3 2", "4 2"],
        "train_test_split.txt": ["1 1", "2 0", "3 0", "4 1"],
        "bounding_boxes.txt": [f"{k} 1.0 1.0 9.0 9.0" for k in range(1, 5)],
    }
    members = {f"CUB_200_2011/{name}": "\n".join([*lines, ""]).encode() for name, lines in texts.items()}
    members |= {f"CUB_200_2011/images/{name}": jpeg(k // 2) for k, name in enumerate(names)}
    members["attributes.txt"] = b"beside the folder, as published"
    return {"CUB_200_2011.tgz": tar(members)}, {"train": [0, 1], "test": [0, 1]}, ("001.Albatross", "002.Auklet")


def car_annotations(labels):
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    array = np.zeros((1, len(labels)), dtype=[(field, object) for field in fields])
    for column, label in enumerate(labels):
        array[0, column] = (1, 1, 9, 9, label + 1, f"{column + 1:05d}.jpg")
    return mat(annotations=array)


def cars(tar):
    train, test = [1, 0, 1], [0, 1]
    names = np.empty((1, 2), dtype=object)
    names[0, :] = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    kit = {"devkit/cars_train_annos.mat": car_annotations(train), "devkit/cars_meta.mat": mat(class_names=names)}
    files = {
        "car_devkit.tgz": tar(kit),
        "cars_test_annos_withlabels.mat": car_annotations(test),
        "cars_train.tgz": tar({f"cars_train/{k:05d}.jpg": jpeg(label) for k, label in enumerate(train, 1)}),
        "cars_test.tgz": tar({f"cars_test/{k:05d}.jpg": jpeg(label) for k, label in enumerate(test, 1)}),
    }
    return files, {"train": train, "test": test}, tuple(names[0])


def flowers(tar):
    labels = [1, 2, 1, 2, 2]  # labels of images 1 to 5
    files = {
        "102flowers.tgz": tar({f"jpg/image_{k:05d}.jpg": jpeg(label - 1) for k, label in enumerate(labels, 1)}),
        "imagelabels.mat": mat(labels=np.array([labels], dtype=np.uint8)),
        "setid.mat": mat(trnid=np.array([[4, 1]]), valid=np.array([[2]]), tstid=np.array([[3, 5]], dtype=np.uint16)),
    }
    return files, {"train": [0, 1, 1], "test": [0, 1]}, None


def dog_list(names, labels):
    return mat(file_list=cells(names), labels=np.array([labels]))


def dogs(tar):
    train = ["n02-Chihuahua/n02_1.jpg", "n03-Beagle/n03_1.jpg", "n03-Beagle/n03_2.jpg"]
    test = ["n03-Beagle/n03_3.jpg", "n02-Chihuahua/n02_2.jpg"]

    def listing(names):
        return dog_list(names, [1 + ("Beagle" in name) for name in names])

    images = {f"Images/{name}": jpeg("Beagle" in name) for name in train + test}
    lists = {"train_list.mat": listing(train), "test_list.mat": listing(test), "file_list.mat": listing(train + test)}
    files = {"lists.tar": tar(lists, "w"), "images.tar": tar(images, "w")}
    return files, {"train": [0, 1, 1], "test": [1, 0]}, ("n02-Chihuahua", "n03-Beagle")


def aircraft(tar):
    split = {"trainval": ["1025794 707-320", "1340192 A 340/200"], "test": ["0056978 A 340/200", "1236289 707-320"]}
    members = {"variants.txt": b"707-320\nA 340/200\n"}
    members |= {f"images_variant_{part}.txt": "\n".join([*lines, ""]).encode() for part, lines in split.items()}
    for line in split["trainval"] + split["test"]:
        members[f"images/{line.split(' ')[0]}.jpg"] = jpeg("A 340" in line)
    archive = tar({f"fgvc-aircraft-2013b/data/{name}": data for name, data in members.items()})
    return {"fgvc-aircraft-2013b.tar.gz": archive}, {"train": [0, 1], "test": [1, 0]}, ("707-320", "A 340/200")


def imagenet(tar):
    wnids = ["n01440764", "n01443537"]
    synsets = np.zeros((3, 1), dtype=[(f, object) for f in ("ILSVRC2012_ID", "WNID", "words", "num_children")])
    # Ids are not in the order of the wnids, and the third synset is an inner node.
    for row, values in enumerate([(1, wnids[1], "goldfish", 0), (2, wnids[0], "tench", 0), (3, "n00001740", "x", 2)]):
        synsets[row, 0] = values
    kit = "ILSVRC2012_devkit_t12/data/"
    truth = b"2\n1\n1\n"  # tench, goldfish, goldfish
    inner = {f"{w}.tar": tar({f"{w}_{k}.JPEG": jpeg(label) for k in (0, 1)}, "w") for label, w in enumerate(wnids)}
    val = {f"ILSVRC2012_val_{k:08d}.JPEG": jpeg(label) for k, label in enumerate([0, 1, 1], 1)}
    kit = tar({kit + "meta.mat": mat(synsets=synsets), kit + "ILSVRC2012_validation_ground_truth.txt": truth})
    files = {"ILSVRC2012_img_val.tar": tar(val, "w"), "ILSVRC2012_img_train.tar": tar(inner, "w")}
    return files | {"ILSVRC2012_devkit_t12.tar.gz": kit}, {"train": [0, 0, 1, 1], "test": [0, 1, 1]}, tuple(wnids)


SETS = {"cub200": cub, "stanford_cars": cars, "flowers102": flowers}
SETS |= {"stanford_dogs": dogs, "fgvc_aircraft": aircraft, "imagenet": imagenet}


@pytest.fixture
def lay(monkeypatch, tools, tmp_path):
    """Return a function that puts a set's archives into the data folder, as after a manual download -> its entry."""

    def lay(name, **changed):
        files, labels, names = SETS[name](tools.tar)
        files |= changed
        known = registry.entry(name)
        assert {archive.name for archive in known.archives} == files.keys()
        counts = {split: len(labels[split]) for split in ("train", "test")}
        known = dataclasses.replace(tools.with_archives(known, files), files=(), classes=2, **counts)
        monkeypatch.setattr(sets, "entry", lambda _: known)
        for file, data in files.items():
            (tmp_path / file).write_bytes(data)
        return known

    return lay


@pytest.mark.parametrize("name", SETS)
def test_the_published_archives_are_fetched_and_read(name, lay, tools, tmp_path):
    entry, (_, expected, names) = lay(name), SETS[name](tools.tar)
    assert fetch(entry, tmp_path) == tmp_path / entry.folder
    data, files = sets.load(name, tmp_path, "real", SIDE), sets.load_files(name, tmp_path)
    assert data.class_names == (names or ("class 1", "class 2"))  # Flowers-102 has no class names
    assert data.provenance == files.provenance
    provenance = data.provenance
    assert (provenance["complete"], provenance["kind"], provenance["verified"]) == (True, "official", True)
    for images, labels, paths, split in (
        (data.train_images, data.train_labels, files.train_images, "train"),
        (data.test_images, data.test_labels, files.test_images, "test"),
    ):
        # The colour of every image matches its class, so files and labels belong together.
        assert images.shape == (len(paths), 3, SIDE, SIDE) and labels.tolist() == expected[split]
        assert np.abs(images[:, 0].mean((1, 2)) - (60 + 40 * labels)).max() < 3
        assert all(path.is_file() for path in paths)
    fetch(entry, tmp_path)  # the second time there is nothing to do
    assert not list(tmp_path.rglob("*.building"))
    (tmp_path / entry.folder / sets.FETCHED).write_text("{")
    assert sets.load_files(name, tmp_path).provenance["verified"] is False


def test_lists_with_their_checksums_are_not_taken_for_the_images(lay, tmp_path):
    entry = lay("stanford_dogs")
    folder = fetch(entry, tmp_path)
    published = registry.PublishedFile("train_list.mat", registry.md5_of(folder / "train_list.mat"), "train")
    entry = dataclasses.replace(entry, files=(published,))
    assert fetch(entry, tmp_path) == folder
    shutil.rmtree(folder / "Images")
    with pytest.raises(UsageError, match="images are missing"):
        fetch(entry, tmp_path)


def test_a_fetch_that_is_stopped_while_it_records_leaves_nothing_that_looks_whole(lay, tmp_path, monkeypatch):
    entry = lay("cub200")

    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Images, "fingerprint", stop)
        fetch(entry, tmp_path)
    assert not (tmp_path / "CUB_200_2011").exists() and fetch(entry, tmp_path).is_dir()


@pytest.mark.parametrize("name", SETS)
def test_damaged_and_missing_images_are_named_and_counted(name, lay, tmp_path):
    entry = lay(name)
    fetch(entry, tmp_path)
    files = sets.load_files(name, tmp_path)
    first, last = files.train_images[0], files.test_images[-1]
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(UsageError, match=rf"1 of \d+ images cannot be used \(.*{last.name}: "):
        sets.load(name, tmp_path, "real", SIDE)
    assert sets.load_files(name, tmp_path).provenance["verified"] is False  # the files differ from the unpacked ones
    assert not list((tmp_path / "arrays").iterdir())
    first.unlink()
    if name == "imagenet":  # it lists the existing files, so a missing image makes it a subset
        assert sets.load_files(name, tmp_path).provenance["complete"] is False
        return
    last.unlink()
    missing = rf"2 of {len(files.train_images) + len(files.test_images)} images are missing"
    with pytest.raises(UsageError, match=missing):
        sets.load_files(name, tmp_path)
    with pytest.raises(UsageError, match=missing):  # instead of reporting that it exists
        fetch(entry, tmp_path)


CUB = b"1 001.Albatross/a_1.jpg\n2 001.Albatross/a_2.jpg\n3 002.Auklet/b_1.jpg\n4 002.Auklet/b_2.jpg\n"
FAULTS = {
    "cub200": [
        ("images.txt", CUB.replace(b"a_2", b"a_1")),
        ("images.txt", CUB.replace(b"/a_1", b"/../../a")),
        ("image_class_labels.txt", b"1 one\n2 1\n3 2\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 1\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 2\n4 1\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 2\n"),
        ("train_test_split.txt", b"1 1\n2 0\n3 7\n4 1\n"),
        ("train_test_split.txt", b"1 1\n2 1\n3 1\n4 1\n"),
        ("train_test_split.txt", b"3 1\n1 1\n2 0\n4 0\n"),
        ("images.txt", b"1\n"),
        ("images.txt", b"\xff\xfe"),
    ],
    "stanford_cars": [
        ("devkit/cars_train_annos.mat", b"MATLAB 5.0 MAT-file"),
        ("devkit/cars_train_annos.mat", mat(annotations=np.array([1, 2]))),
        ("devkit/cars_meta.mat", mat(names=np.array([1]))),
        ("devkit/cars_train_annos.mat", car_annotations([1, 0.5])),
        ("devkit/cars_train_annos.mat", car_annotations([1, 1])),
    ],
    "flowers102": [
        ("setid.mat", mat(trnid=np.array([[9]]), valid=np.array([[2]]), tstid=np.array([[3]]))),
        ("setid.mat", mat(trnid=np.array([[4, 1]]), valid=np.array([[3]]), tstid=np.array([[3, 5]]))),
        ("imagelabels.mat", b""),
        ("imagelabels.mat", mat(labels=np.array([[1, 2, 1.5, 2, 2]]))),
        ("imagelabels.mat", mat(labels=np.array([[1, 2, np.nan, 2, 2]]))),
        ("imagelabels.mat", mat(labels=cells(["a", "b"]))),
    ],
    "stanford_dogs": [
        ("test_list.mat", mat(file_list=cells(["a/b.jpg", "a/c.jpg"]), labels=np.array([[1]]))),
        ("test_list.mat", dog_list(["n02-Chihuahua/n02_1.jpg", "n03-Beagle/n03_3.jpg"], [1, 2])),
        ("test_list.mat", dog_list(["n02-Chihuahua/n02_2.jpg", "n03-Beagle/n03_3.jpg"], [2, 1])),
        ("test_list.mat", dog_list(["n02-Chihuahua/n02_2.jpg", "n03-Beagle/n03_3.jpg"], [3, 2])),
    ],
    "fgvc_aircraft": [
        ("data/images_variant_test.txt", b"0056978 DC-3\n"),
        ("data/images_variant_test.txt", b"1025794 707-320\n0056978 A 340/200\n"),
    ],
}


@pytest.mark.parametrize("name", FAULTS)
def test_malformed_files_of_the_layout_are_one_sentence(name, lay, tmp_path):
    entry = lay(name)
    folder = fetch(entry, tmp_path)
    whole = layouts.read(entry, tmp_path).fingerprint()
    for path, content in FAULTS[name]:
        before = (folder / path).read_bytes()
        (folder / path).write_bytes(content)
        says = rf"or move the folder {folder} away and run `.* fetch {entry.name}`\.$"
        with pytest.raises(UsageError, match=says) as raised:
            layouts.read(entry, tmp_path)
        assert "\n" not in str(raised.value)
        (folder / path).write_bytes(before)
        assert layouts.read(entry, tmp_path).fingerprint() == whole


def test_hidden_files_of_an_archive_are_passed_over(lay, tools, tmp_path):
    val = {f"v_{k}.JPEG": jpeg(label) for k, label in enumerate([0, 1, 1])}
    hidden = {"._v_0.JPEG": b"x"}  # like those in archives made on a Mac
    entry = lay("imagenet", **{"ILSVRC2012_img_val.tar": tools.tar(hidden | val, "w")})
    fetch(entry, tmp_path)
    assert layouts.read(entry, tmp_path).test_labels.tolist() == [0, 1, 1]


def test_a_development_kit_that_does_not_fit_leaves_nothing(lay, tools, tmp_path):
    kit = "ILSVRC2012_devkit_t12/data/"
    broken = tools.tar({kit + "meta.mat": b"no", kit + "ILSVRC2012_validation_ground_truth.txt": b"1\n"})
    entry = lay("imagenet", **{"ILSVRC2012_devkit_t12.tar.gz": broken})
    with pytest.raises(UsageError, match=r"devkit_t12.tar.gz.* cannot be unpacked \(.*delete and fetch again"):
        fetch(entry, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
