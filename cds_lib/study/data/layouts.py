"""Readers of the published on-disk layouts of the image sets, each into a listing of files and classes, or arrays.

Labels count from 0 in the order of the published class ids. `Listing.fingerprint` checks that the images exist.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar
from cds_lib.study.data.listing import Arrays, Listing, Split, class_folders
from cds_lib.study.data.registry import DataSet


def read(known: DataSet, root: Path) -> Arrays | Listing:
    """Read the official folder below `root`. Raises UsageError for a missing or malformed file."""
    if known.layout not in (*_READERS, "cifar-batches"):
        raise UsageError(f"{known.title} has the layout {known.layout!r} in registry.toml, and layouts.py does not.")
    folder = root / known.folder
    try:
        held = cifar.read(known, folder) if known.image_size else _READERS[known.layout](folder)
        if len(held.class_names) != known.classes:
            raise UsageError(f"{folder} names {len(held.class_names)} classes, not {known.classes}")
    except Exception as error:  # a malformed file can raise nearly anything
        what = error if isinstance(error, UsageError) else f"the files of {folder} do not fit together ({error!r})"
        raise UsageError(f"{what}; put that right, or {known.cure(root)}.") from error
    return held


def _cub(folder: Path) -> Listing:
    """images.txt, image_class_labels.txt (from 1), train_test_split.txt (1 = training), classes.txt: id, value.

    An image lies in the folder of its class."""
    files = ("images", "image_class_labels", "train_test_split", "classes")
    names, labels, is_train, classes = (_pairs(folder / f"{file}.txt") for file in files)
    splits: dict[str, list[tuple[str, int]]] = {"1": [], "0": []}
    for number, name in names.items():
        if name.split("/")[0] != classes[labels[number]].split("/")[0]:
            raise UsageError(f"{folder}: image_class_labels.txt says class {labels[number]} of {name}")
        splits[is_train[number]].append((f"images/{name}", int(labels[number]) - 1))
    in_order = tuple(classes[str(number)] for number in range(1, len(classes) + 1))
    return Listing(folder, tuple(splits["1"]), tuple(splits["0"]), in_order)


def _cars(folder: Path) -> Listing:
    """devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat (fname, class from 1), devkit/cars_meta.mat."""

    def split(path: Path, images: str) -> Split:
        annotations = np.atleast_1d(_mat(path, "annotations"))
        files = [f"{images}/{name}" for name in annotations["fname"]]
        return _counted_from_1(files, _whole(annotations["class"]))

    names = np.atleast_1d(_mat(folder / "devkit" / "cars_meta.mat", "class_names"))
    train = split(folder / "devkit" / "cars_train_annos.mat", "cars_train")
    test = split(folder / "cars_test_annos_withlabels.mat", "cars_test")
    return Listing(folder, train, test, tuple(map(str, names)))


def _flowers(folder: Path) -> Listing:
    """setid.mat (trnid, valid, tstid: image numbers), imagelabels.mat (classes from 1, by image number).

    Training images are trnid and valid together: the published accuracies fit 2,040 training images, not 1,020.
    """
    labels = dict(enumerate(_whole(_mat(folder / "imagelabels.mat", "labels")), 1))
    train, valid, test = (_whole(_mat(folder / "setid.mat", key)) for key in ("trnid", "valid", "tstid"))

    def split(numbers: list[int]) -> Split:
        return _counted_from_1([f"jpg/image_{number:05d}.jpg" for number in numbers], map(labels.__getitem__, numbers))

    names = tuple(f"class {number}" for number in range(1, len(set(labels.values())) + 1))
    return Listing(folder, split(sorted(train + valid)), split(test), names)


def _dogs(folder: Path) -> Listing:
    """train_list.mat and test_list.mat (file_list, labels from 1); a class is named by its folder in Images/."""
    names: dict[int, str] = {}

    def split(path: Path) -> Split:
        files, labels = [str(file) for file in np.atleast_1d(_mat(path, "file_list"))], _whole(_mat(path, "labels"))
        for file, label in zip(files, labels, strict=True):
            name = file.split("/")[0]
            if names.setdefault(label, name) != name:
                raise UsageError(f"{path} says class {label} of {file}, and others of it are in {names[label]}")
        return _counted_from_1([f"Images/{file}" for file in files], labels)

    train, test = split(folder / "train_list.mat"), split(folder / "test_list.mat")
    if len(set(names.values())) < len(names):
        raise UsageError(f"{folder}: the lists give the images of one folder to two classes")
    return Listing(folder, train, test, tuple(names[label] for label in sorted(names)))


def _aircraft(folder: Path) -> Listing:
    """data/variants.txt, data/images_variant_{trainval,test}.txt: image number, space, variant."""
    names = tuple(_lines(folder / "data" / "variants.txt"))
    classes = {name: label for label, name in enumerate(names)}

    def split(part: str) -> Split:
        pairs = [line.split(" ", 1) for line in _lines(folder / "data" / f"images_variant_{part}.txt")]
        return tuple((f"data/images/{number}.jpg", classes[name]) for number, name in pairs)

    return Listing(folder, split("trainval"), split("test"), names)


_READERS: dict[str, Callable[[Path], Listing]] = {
    "cub": _cub,
    "cars": _cars,
    "flowers": _flowers,
    "dogs": _dogs,
    "aircraft": _aircraft,
    "ilsvrc": partial(class_folders, train="train", test="val"),  # val/<wnid>/; classes in the order of the wnids
}


def _counted_from_1(files: list[str], labels: Iterable[int]) -> Split:
    return tuple((file, label - 1) for file, label in zip(files, labels, strict=True))


def _whole(values: Any) -> list[int]:
    """Labels or image numbers of a MATLAB file, which may store them as floats."""
    numbers = [float(value) for value in np.atleast_1d(values)]
    if any(not number.is_integer() for number in numbers):
        raise ValueError("labels or numbers of images are not whole numbers")
    return [int(number) for number in numbers]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _pairs(path: Path) -> dict[str, str]:
    pairs = [line.split(maxsplit=1) for line in _lines(path)]
    if any(len(pair) != 2 for pair in pairs) or len({number for number, _ in pairs}) < len(pairs):
        raise UsageError(f"{path} has a number twice, or a line that is not a number and a value")
    return dict(pairs)


def _mat(path: Path, key: str) -> Any:
    """One variable of a MATLAB file, which holds data alone: reading it runs no code."""
    from scipy.io import loadmat  # slow to import

    try:
        return loadmat(path, squeeze_me=True)[key]
    except Exception as error:  # a broken file can raise nearly anything
        raise UsageError(f"{path} cannot be read, or has no {key!r} ({error})") from error
