"""Readers of the image sets' published on-disk layouts, which return arrays, or lists of files and classes.

Labels count from 0 in the order of the published class ids. `Images.fingerprint` checks that the files exist.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar
from cds_lib.study.data.images import Images, Listed, class_folders, listed
from cds_lib.study.data.registry import DataSet


def read(known: DataSet, root: Path) -> Images:
    """Read the official folder below `root`. Raises UsageError for a missing or malformed file."""
    if known.layout not in READERS or (known.layout == "cifar-batches") != bool(known.image_size):
        raise UsageError(
            f"{known.title} has the layout {known.layout!r} in registry.toml, and layouts.py does not, or not for "
            f"image_size = {known.image_size}."
        )
    folder, classes = root / known.folder, set(range(known.classes))
    try:
        held = READERS[known.layout](known, folder)
        found = [set(labels.tolist()) for labels in (held.train_labels, held.test_labels)]
        if len(held.class_names) != len(classes) or found != [classes, classes]:
            raise UsageError(f"{folder} does not name {len(classes)} classes, with training and test images of each")
    except Exception as error:  # a malformed file can raise nearly anything
        what = error if isinstance(error, UsageError) else f"the files of {folder} do not fit together ({error!r})"
        raise UsageError(f"{what}; fix that, or {known.cure(root)}.") from error
    return held


def _cub(_: DataSet, folder: Path) -> Images:
    """images.txt, image_class_labels.txt (from 1), train_test_split.txt (1 = training); lines: image number, value."""
    columns = (_values(folder / f"{file}.txt") for file in ("images", "image_class_labels", "train_test_split"))
    splits: dict[str, list[tuple[str, int]]] = {"1": [], "0": []}
    for name, label, is_train in zip(*columns, strict=True):
        splits[is_train].append((f"images/{name}", int(label) - 1))
    return listed(folder, splits["1"], splits["0"], _folders_of_classes(splits["1"] + splits["0"]))


def _cars(_: DataSet, folder: Path) -> Images:
    """devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat (fname, class from 1), devkit/cars_meta.mat."""

    def split(path: Path, images: str) -> Listed:
        annotations = _mat(path, "annotations")
        return _from_1([f"{images}/{name}" for name in annotations["fname"]], annotations["class"])

    train = split(folder / "devkit" / "cars_train_annos.mat", "cars_train")
    test = split(folder / "cars_test_annos_withlabels.mat", "cars_test")
    return listed(folder, train, test, [str(name) for name in _mat(folder / "devkit" / "cars_meta.mat", "class_names")])


def _flowers(known: DataSet, folder: Path) -> Images:
    """setid.mat (trnid, valid, tstid: image numbers), imagelabels.mat (classes from 1, by image number).

    Training images are trnid and valid together: the published accuracies fit 2,040 training images, not 1,020.
    """
    labels = _mat(folder / "imagelabels.mat", "labels")
    train, valid, test = (_mat(folder / "setid.mat", key) for key in ("trnid", "valid", "tstid"))

    def split(numbers: np.ndarray) -> Listed:
        return _from_1([f"jpg/image_{number:05d}.jpg" for number in numbers], labels[numbers - 1])

    names = [f"class {number}" for number in range(1, known.classes + 1)]
    return listed(folder, split(np.sort(np.concatenate([train, valid]))), split(test), names)


def _dogs(_: DataSet, folder: Path) -> Images:
    """train_list.mat and test_list.mat (file_list, labels from 1); a class is named by its folder in Images/."""

    def split(path: Path) -> Listed:
        return _from_1([f"Images/{file}" for file in _mat(path, "file_list")], _mat(path, "labels"))

    train, test = split(folder / "train_list.mat"), split(folder / "test_list.mat")
    return listed(folder, train, test, _folders_of_classes(train + test))


def _aircraft(_: DataSet, folder: Path) -> Images:
    """data/variants.txt, data/images_variant_{trainval,test}.txt; lines: image number, space, variant."""
    names = _lines(folder / "data" / "variants.txt")

    def split(part: str) -> Listed:
        pairs = [line.split(" ", 1) for line in _lines(folder / "data" / f"images_variant_{part}.txt")]
        return [(f"data/images/{number}.jpg", names.index(name)) for number, name in pairs]

    return listed(folder, split("trainval"), split("test"), names)


READERS: dict[str, Callable[[DataSet, Path], Images]] = {
    "cifar-batches": cifar.read,
    "cub": _cub,
    "cars": _cars,
    "flowers": _flowers,
    "dogs": _dogs,
    "aircraft": _aircraft,
    "ilsvrc": lambda _, folder: class_folders(folder, "val"),  # classes in the order of the wnids
}


def _from_1(files: Sequence[str], labels: Iterable) -> Listed:
    """Pair files with classes counted from 0; the set counts them from 1, and MATLAB may hold them as floats."""
    whole = [int(label) for label in labels]
    if whole != list(labels):
        raise ValueError("classes are not whole numbers")
    return [(file, label - 1) for file, label in zip(files, whole, strict=True)]


def _folders_of_classes(files: Listed) -> list[str]:
    """Return the class names in label order, for a set whose images lie in the folder of their class."""
    return [name for _, name in sorted({(label, file.split("/")[1]) for file, label in files})]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _values(path: Path) -> tuple[str, ...]:
    """Return the values of a file whose lines hold a number, counting from 1, and a value."""
    numbers, values = zip(*(line.split(maxsplit=1) for line in _lines(path)), strict=True)
    if list(map(int, numbers)) != list(range(1, len(numbers) + 1)):
        raise UsageError(f"{path} does not number its lines from 1")
    return values


def _mat(path: Path, key: str) -> Any:
    """Read one variable of a MATLAB file. It holds only data, so reading it runs no code."""
    from scipy.io import loadmat  # slow to import

    return np.atleast_1d(loadmat(path, squeeze_me=True)[key])
