"""Each image set in its published layout, written here as small archives: fetched, unpacked, read, cached, damaged."""

import dataclasses
import errno
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cds_lib.errors import UsageError
from cds_lib.study.data import fetch as fetching
from cds_lib.study.data import image_files, layouts, registry, sets
from cds_lib.study.data.fetch import fetch

SIDE = 24


def jpeg(label, size=(40, 30)):
    """A picture of one colour, which survives JPEG: its red value tells the class."""
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


def tar(members, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def cub():
    names = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auklet/b_1.jpg", "002.Auklet/b_2.jpg"]
    texts = {
        "images.txt": [f"{k} {name}" for k, name in enumerate(names, 1)],
        "image_class_labels.txt": ["1 1", "2 1", "3 2", "4 2"],
        "train_test_split.txt": ["1 1", "2 0", "3 0", "4 1"],
        "classes.txt": ["1 001.Albatross", "2 002.Auklet"],
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


def cars():
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


def flowers():
    labels = [1, 2, 1, 2, 2]  # of images 1 to 5
    files = {
        "102flowers.tgz": tar({f"jpg/image_{k:05d}.jpg": jpeg(label - 1) for k, label in enumerate(labels, 1)}),
        "imagelabels.mat": mat(labels=np.array([labels], dtype=np.uint8)),
        "setid.mat": mat(trnid=np.array([[4, 1]]), valid=np.array([[2]]), tstid=np.array([[3, 5]], dtype=np.uint16)),
    }
    return files, {"train": [0, 1, 1], "test": [0, 1]}, None


def dog_list(names, labels):
    return mat(file_list=cells(names), labels=np.array([labels]))


def dogs():
    train = ["n02-Chihuahua/n02_1.jpg", "n03-Beagle/n03_1.jpg", "n03-Beagle/n03_2.jpg"]
    test = ["n03-Beagle/n03_3.jpg", "n02-Chihuahua/n02_2.jpg"]

    def listing(names):
        return dog_list(names, [1 + ("Beagle" in name) for name in names])

    images = {f"Images/{name}": jpeg("Beagle" in name) for name in train + test}
    lists = {"train_list.mat": listing(train), "test_list.mat": listing(test), "file_list.mat": listing(train + test)}
    files = {"lists.tar": tar(lists, "w"), "images.tar": tar(images, "w")}
    return files, {"train": [0, 1, 1], "test": [1, 0]}, ("n02-Chihuahua", "n03-Beagle")


def aircraft():
    split = {"trainval": ["1025794 707-320", "1340192 A 340/200"], "test": ["0056978 A 340/200", "1236289 707-320"]}
    members = {"variants.txt": b"707-320\nA 340/200\n"}
    members |= {f"images_variant_{part}.txt": "\n".join([*lines, ""]).encode() for part, lines in split.items()}
    for line in split["trainval"] + split["test"]:
        members[f"images/{line.split(' ')[0]}.jpg"] = jpeg("A 340" in line)
    archive = tar({f"fgvc-aircraft-2013b/data/{name}": data for name, data in members.items()})
    return {"fgvc-aircraft-2013b.tar.gz": archive}, {"train": [0, 1], "test": [1, 0]}, ("707-320", "A 340/200")


def imagenet():
    wnids = ["n01440764", "n01443537"]
    synsets = np.zeros((3, 1), dtype=[(f, object) for f in ("ILSVRC2012_ID", "WNID", "words", "num_children")])
    # Ids are not in the order of the wnids, and the third synset is an inner one.
    for row, values in enumerate([(1, wnids[1], "goldfish", 0), (2, wnids[0], "tench", 0), (3, "n00001740", "x", 2)]):
        synsets[row, 0] = values
    kit = "ILSVRC2012_devkit_t12/data/"
    truth = b"2\n1\n1\n"  # tench, goldfish, goldfish
    inner = {
        f"{wnid}.tar": tar({f"{wnid}_{k}.JPEG": jpeg(label) for k in range(2)}, "w") for label, wnid in enumerate(wnids)
    }
    val = {f"ILSVRC2012_val_{k:08d}.JPEG": jpeg(label) for k, label in enumerate([0, 1, 1], 1)}
    files = {
        "ILSVRC2012_devkit_t12.tar.gz": tar(
            {kit + "meta.mat": mat(synsets=synsets), kit + "ILSVRC2012_validation_ground_truth.txt": truth}
        ),
        "ILSVRC2012_img_val.tar": tar(val, "w"),
        "ILSVRC2012_img_train.tar": tar(inner, "w"),
    }
    return files, {"train": [0, 0, 1, 1], "test": [0, 1, 1]}, tuple(wnids)


SETS = {
    "cub200": cub,
    "stanford_cars": cars,
    "flowers102": flowers,
    "stanford_dogs": dogs,
    "fgvc_aircraft": aircraft,
    "imagenet": imagenet,
}


@dataclasses.dataclass(frozen=True)
class Small:
    entry: registry.DataSet
    files: dict
    labels: dict
    names: tuple | None

    def put(self, root, **changed):
        """Lay the archives into the data folder, as someone who downloaded them by hand does."""
        root.mkdir(exist_ok=True)
        for name, data in {**self.files, **changed}.items():
            (root / name).write_bytes(data)
        return root


def small(name, monkeypatch):
    files, labels, names = SETS[name]()
    names = names or ("class 1", "class 2")  # flowers have none of their own
    known = registry.entry(name)
    archives = tuple(
        dataclasses.replace(a, md5=a.md5 and hashlib.md5(files[a.file]).hexdigest(), urls=()) for a in known.archives
    )
    assert {a.file for a in archives} == files.keys()
    counts = {split: len(labels[split]) for split in ("train", "test")}
    known = dataclasses.replace(known, archives=archives, files=(), classes=2, **counts)
    monkeypatch.setattr(sets, "entry", lambda _: known)
    return Small(known, files, labels, names)


def quiet(entry, root):
    return fetch(entry, root, out=io.StringIO())


@pytest.mark.parametrize("name", SETS)
def test_the_published_archives_are_fetched_and_read(name, tmp_path, monkeypatch):
    held = small(name, monkeypatch)
    root = held.put(tmp_path / "data")
    assert quiet(held.entry, root) == root / held.entry.folder
    data = sets.load(name, root, "real", SIDE)
    assert data.class_names == held.names
    assert (data.provenance["complete"], data.provenance["kind"]) == (True, "official")
    assert data.provenance["verified"] == all(archive.md5 for archive in held.entry.archives)
    for images, labels, split in (
        (data.train_images, data.train_labels, "train"),
        (data.test_images, data.test_labels, "test"),
    ):
        # Every image's colour is that of its class: files and labels belong together.
        assert images.shape == (len(labels), 3, SIDE, SIDE) and labels.tolist() == held.labels[split]
        assert np.abs(images[:, 0].mean((1, 2)) - (60 + 40 * labels)).max() < 3
    files = sets.load_files(name, root)
    assert files.train_labels.tolist() == held.labels["train"] and all(path.is_file() for path in files.test_images)
    assert files.provenance["sha256"] == data.provenance["sha256"]
    quiet(held.entry, root)  # again: nothing to do
    assert not [path.name for path in root.iterdir() if path.name.endswith((".unpacking", ".building"))]


def test_lists_with_their_checksums_are_not_taken_for_the_images(tmp_path, monkeypatch):
    held = small("stanford_dogs", monkeypatch)
    root = held.put(tmp_path / "data")
    folder = quiet(held.entry, root)
    published = registry.PublishedFile("train_list.mat", "train", fetching.md5_of(folder / "train_list.mat"))
    entry = dataclasses.replace(held.entry, files=(published,))
    assert quiet(entry, root) == folder
    shutil.rmtree(folder / "Images")
    with pytest.raises(UsageError, match="images are missing"):
        quiet(entry, root)


def test_an_archive_with_another_checksum_is_never_unpacked(tmp_path, monkeypatch):
    held = small("cub200", monkeypatch)
    root = held.put(tmp_path, **{"CUB_200_2011.tgz": held.files["CUB_200_2011.tgz"] + b"x"})
    with pytest.raises(UsageError, match=r"md5 of .*CUB_200_2011.tgz is not the published .*; delete that file"):
        quiet(held.entry, root)
    assert not (root / "CUB_200_2011").exists()


def test_a_fetch_that_is_stopped_while_it_records_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    held = small("cub200", monkeypatch)
    root = held.put(tmp_path)

    def stop(listing):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_files, "fingerprint", stop)
        quiet(held.entry, root)
    assert not (root / "CUB_200_2011").exists()
    quiet(held.entry, root)
    assert sets.load_files("cub200", root).provenance["verified"] is True


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system takes space as it goes")
def test_a_disk_without_room_for_the_small_images_is_one_sentence(tmp_path, monkeypatch):
    """Written into a map, a full disk would kill the process."""
    held = small("cub200", monkeypatch)
    root = held.put(tmp_path)
    quiet(held.entry, root)

    def full(file, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"cannot write in .*arrays \(No space left on device\); free space"):
        sets.load("cub200", root, "real", SIDE)
    assert not list((root / "arrays").iterdir())


def test_a_set_without_urls_says_what_to_do(tmp_path, monkeypatch):
    held = small("stanford_cars", monkeypatch)
    held.put(tmp_path)
    (tmp_path / "cars_test.tgz").unlink()
    with pytest.raises(UsageError, match="cars_test.tgz is not in .* and cannot be downloaded. The original downloads"):
        quiet(held.entry, tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_image_is_named_and_counted(name, tmp_path, monkeypatch):
    held = small(name, monkeypatch)
    root = held.put(tmp_path)
    quiet(held.entry, root)
    path = sets.load_files(name, root).test_images[-1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=rf"1 of \d+ images cannot be used \(.*{path.name}: cannot be decoded"):
        sets.load(name, root, "real", SIDE)
    assert sets.load_files(name, root).provenance["verified"] is False  # no longer what was unpacked
    assert not list((root / "arrays").iterdir())


@pytest.mark.parametrize("name", SETS)
def test_missing_images_are_named_and_counted(name, tmp_path, monkeypatch):
    held = small(name, monkeypatch)
    root = held.put(tmp_path)
    quiet(held.entry, root)
    files = sets.load_files(name, root)
    if name == "imagenet":  # its listing is what lies there: an image less is a subset
        files.train_images[0].unlink()
        assert sets.load_files(name, root).provenance["complete"] is False
        return
    for path in (files.train_images[0], files.test_images[0]):
        path.unlink()
    missing = rf"2 of {len(files.train_images) + len(files.test_images)} images are missing"
    with pytest.raises(UsageError, match=missing):
        sets.load_files(name, root)
    with pytest.raises(UsageError, match=missing):  # and does not say that it is there already
        quiet(held.entry, root)


CUB = b"1 001.Albatross/a_1.jpg\n2 001.Albatross/a_2.jpg\n3 002.Auklet/b_1.jpg\n4 002.Auklet/b_2.jpg\n"
FAULTS = {
    "cub200": [
        ("images.txt", b"1 a.jpg\n"),
        ("images.txt", CUB.replace(b"a_2", b"a_1")),
        ("images.txt", CUB.replace(b"/a_1", b"/../../a")),
        ("image_class_labels.txt", b"1 one\n2 1\n3 2\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 2\n4 3\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 1\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 2\n4 1\n4 2\n"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 2\n"),
        ("train_test_split.txt", b"1 1\n2 0\n3 7\n4 1\n"),
        ("train_test_split.txt", b"1 1\n2 1\n3 1\n4 1\n"),
        ("train_test_split.txt", b"1 1\n2 1\n3 0\n4 1\n"),
        ("train_test_split.txt", b"1 1\n2 0\n3 0\n4 0\n"),
        ("classes.txt", b"3 001.Albatross\n2 002.Auklet\n"),
        ("classes.txt", b"1 001.Albatross\n"),
        ("classes.txt", b"1\n"),
        ("classes.txt", b"\xff\xfe"),
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
def test_malformed_files_of_the_layout_are_one_sentence(name, tmp_path, monkeypatch):
    held = small(name, monkeypatch)
    root = held.put(tmp_path)
    folder = quiet(held.entry, root)
    whole = layouts.read(held.entry, root)
    for path, content in FAULTS[name]:
        before = (folder / path).read_bytes()
        (folder / path).write_bytes(content)
        with pytest.raises(UsageError) as raised:
            layouts.read(held.entry, root)
        said = str(raised.value)
        assert said.startswith((str(folder), "the files of " + str(folder))) and "\n" not in said, said
        assert said.endswith(f", or move {folder} away and fetch the set again.")
        (folder / path).write_bytes(before)
        assert layouts.read(held.entry, root) == whole


def test_imagenet_without_a_class_in_val_is_refused(tmp_path, monkeypatch):
    held = small("imagenet", monkeypatch)
    root = held.put(tmp_path)
    quiet(held.entry, root)
    (root / "ILSVRC2012" / "val" / "n01440764").rename(root / "elsewhere")
    with pytest.raises(UsageError, match="train/ has 2 class folders and val/ 1"):
        layouts.read(held.entry, root)


def test_what_is_an_image_goes_by_its_name_and_nothing_is_left_out_in_silence(tmp_path, monkeypatch):
    held = small("imagenet", monkeypatch)
    # Hidden files, as an archive that was made on a Mac has them, are passed over in unpacking, too.
    val = tar(
        {"._ILSVRC2012_val_00000001.JPEG": b"x"} | {f"v_{k}.JPEG": jpeg(label) for k, label in enumerate([0, 1, 1])},
        "w",
    )
    archives = tuple(
        dataclasses.replace(a, md5=hashlib.md5(val).hexdigest()) if "img_val" in a.file else a
        for a in held.entry.archives
    )
    root = held.put(tmp_path, **{"ILSVRC2012_img_val.tar": val})
    entry = dataclasses.replace(held.entry, archives=archives)
    quiet(entry, root)
    before = layouts.read(entry, root)
    assert [label for _, label in before.test] == [0, 1, 1]
    folder = root / "ILSVRC2012" / "train" / "n01440764"
    for name in ("._n01440764_0.JPEG", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    assert layouts.read(entry, root) == before
    for name in ("a.jpeg", "b.jpg", "c.PNG"):
        (folder / name).write_bytes(jpeg(0))
    listed = [name.rsplit("/")[-1] for name, label in layouts.read(entry, root).train if label == 0]
    assert listed == ["a.jpeg", "b.jpg", "c.PNG", "n01440764_0.JPEG", "n01440764_1.JPEG"]
    (folder / "notes.txt").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"n01440764 holds what is not named as an image \(notes.txt\)"):
        layouts.read(entry, root)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="n01440764 holds no images"):
        layouts.read(entry, root)


def test_a_development_kit_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    held = small("imagenet", monkeypatch)
    kit = "ILSVRC2012_devkit_t12/data/"
    broken = tar({kit + "meta.mat": b"no", kit + "ILSVRC2012_validation_ground_truth.txt": b"1\n"})
    archives = tuple(
        dataclasses.replace(a, md5=hashlib.md5(broken).hexdigest()) if "devkit" in a.file else a
        for a in held.entry.archives
    )
    root = held.put(tmp_path, **{"ILSVRC2012_devkit_t12.tar.gz": broken})
    with pytest.raises(UsageError, match="development kit cannot be read"):
        quiet(dataclasses.replace(held.entry, archives=archives), root)
    assert not (root / "ILSVRC2012").exists() and not (root / ".imagenet.unpacking").exists()


def aircraft_with(data, suffix):
    """A set whose archive is replaced and has no checksum: what protects then is the unpacking alone."""
    entry = registry.entry("fgvc_aircraft")
    archive = dataclasses.replace(entry.archives[0], file=f"archive{suffix}", md5=None, urls=())
    return dataclasses.replace(entry, archives=(archive,)), archive.file, data


def link(name, target):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return stream.getvalue()


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"out")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (tar({"../escaped": b"out"}), ".tar.gz"),
        (tar({"fgvc-aircraft-2013b/../../escaped": b"out"}), ".tar.gz"),
        (link("fgvc-aircraft-2013b/link", "../../../escaped"), ".tar.gz"),
        (link("fgvc-aircraft-2013b/link", "/etc"), ".tar.gz"),
        (zipped("../escaped"), ".zip"),
        (zipped("fgvc-aircraft-2013b/../../escaped"), ".zip"),
        (b"no archive", ".tar.gz"),
        (tar({"fgvc-aircraft-2013b/data/x": b"x" * 9999})[:-40], ".tar.gz"),
        (zipped("a")[:-10], ".zip"),
        (tar({"other/x": b"x"}), ".tar.gz"),
    ],
    # The archives hold the time: of their bytes, pytest's own names would differ from one process to the next.
    ids=["up", "up within", "link up", "link to /etc", "zip up", "zip up within", "none", "cut", "zip cut", "other"],
)
def test_no_archive_writes_outside_of_its_folder_or_leaves_a_part(data, suffix, tmp_path):
    entry, name, data = aircraft_with(data, suffix)
    root = tmp_path / "above" / "data"
    root.mkdir(parents=True)
    (root / name).write_bytes(data)
    with pytest.raises(UsageError, match="delete it and fetch again"):
        quiet(entry, root)
    assert sorted(path.name for path in root.iterdir()) == [".fgvc_aircraft.lock", name]
    assert [path.name for path in (tmp_path / "above").iterdir()] == ["data"]


def test_another_folder_in_the_way_is_left_alone(tmp_path, monkeypatch):
    held = small("cub200", monkeypatch)
    held.put(tmp_path)
    (tmp_path / "CUB_200_2011").mkdir()
    (tmp_path / "CUB_200_2011" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="is in the way"):
        quiet(held.entry, tmp_path)
    assert (tmp_path / "CUB_200_2011" / "mine.txt").read_text() == "keep"


def test_small_arrays_are_pillows_pixels_made_once(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(50, 34), (34, 50), (24, 24), (10, 12)]):
        Image.fromarray(random.integers(256, size=(*size, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        paths.append((f"{number}.png", 0))
    listing = image_files.Listing(tmp_path, tuple(paths[:2]), tuple(paths[2:]), ("a",))
    train, test = image_files.arrays(listing, "some", tmp_path, SIDE)
    for array, part in ((train, paths[:2]), (test, paths[2:])):
        for row, (name, _) in zip(array, part, strict=True):
            image = Image.open(tmp_path / name)
            short = SIDE / min(image.size)
            image = image.resize([max(SIDE, round(side * short)) for side in image.size], Image.Resampling.BILINEAR)
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            expected = np.asarray(image.crop((left, top, left + SIDE, top + SIDE))).transpose(2, 0, 1)
            assert np.array_equal(row, expected)
    train[:] = 0  # the caller's own: the file keeps its pixels
    made = next((tmp_path / "arrays").iterdir())
    before = (made / "train.npy").stat().st_mtime_ns
    again, _ = image_files.arrays(listing, "some", tmp_path, SIDE)
    assert again.max() > 0 and (made / "train.npy").stat().st_mtime_ns == before


def test_what_was_unpacked_is_known_again_and_a_changed_record_is_not_trusted(tmp_path, monkeypatch):
    held = small("flowers102", monkeypatch)
    root = held.put(tmp_path)
    quiet(held.entry, root)
    sha256 = sets.load_files("flowers102", root).provenance["sha256"]
    assert fetching.is_verified(held.entry, root, sha256) and not fetching.is_verified(held.entry, root, "0" * 64)
    (root / "flowers-102" / fetching.FETCHED).write_text("{")
    assert not fetching.is_verified(held.entry, root, sha256)


def test_many_images_are_decoded_in_order_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(image_files, "_CHUNK", 2)
    begun = []
    monkeypatch.setattr(image_files, "read_rgb", lambda path: begun.append(path) or path.name)
    found = image_files.decoded([Path(str(number)) for number in range(5)], str)
    assert next(found) == "0" and len(begun) <= 2
    assert list(found) == ["1", "2", "3", "4"]
