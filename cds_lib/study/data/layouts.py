"""The published on-disk layouts of the image sets: each function turns one into a listing of files and classes.

Labels count from 0 in the order of the published class ids. A file of the layout that is missing, or that does not say
what it should, is one UsageError that names it. Whether the images are there is for `image_files.fingerprint` to see.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import Listing, check, image_names
from cds_lib.study.data.registry import DataSet


def read(known: DataSet, root: Path) -> Listing:
    """The listing of an official folder below `root`. Raises UsageError for a missing or malformed file."""
    if known.layout not in _READERS:
        raise UsageError(f"{known.title} has the layout {known.layout!r} in registry.toml, and layouts.py does not.")
    folder = root / known.folder
    try:
        return _checked(known, folder)
    except UsageError as error:
        raise UsageError(f"{error}; put that right, or move {folder} away and fetch the set again.") from error


def _checked(known: DataSet, folder: Path) -> Listing:
    """The listing; its errors have no full stop, as what to do about them follows."""
    listing = _READERS[known.layout](folder)
    if len(listing.class_names) != known.classes:
        raise UsageError(f"{folder} names {len(listing.class_names)} classes, not {known.classes}")
    check(listing)
    return listing


def _cub(folder: Path) -> Listing:
    """images.txt, image_class_labels.txt (from 1), train_test_split.txt (1 = training), classes.txt: id, value.

    An image lies in the folder of its class."""
    names, classes = _pairs(folder / "images.txt"), _pairs(folder / "classes.txt")
    labels = _pairs(folder / "image_class_labels.txt")
    is_train = _pairs(folder / "train_test_split.txt")
    if not names.keys() == labels.keys() == is_train.keys():
        raise UsageError(f"{folder}: images.txt, image_class_labels.txt and train_test_split.txt differ")
    if list(classes) != [str(number) for number in range(1, len(classes) + 1)]:
        raise UsageError(f"{folder / 'classes.txt'} does not count its classes from 1")
    splits: dict[str, list[tuple[str, int]]] = {"1": [], "0": []}
    for number, name in names.items():
        if is_train[number] not in splits:
            raise UsageError(f"{folder / 'train_test_split.txt'} says {is_train[number]!r} of an image")
        splits[is_train[number]].append((f"images/{name}", _integer(labels[number], folder) - 1))
        if classes.get(labels[number], name).split("/")[0] != name.split("/")[0]:
            raise UsageError(f"{folder}: image_class_labels.txt says class {labels[number]} of {name}")
    return Listing(folder, tuple(splits["1"]), tuple(splits["0"]), tuple(classes.values()))


def _cars(folder: Path) -> Listing:
    """devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat (fname, class from 1), devkit/cars_meta.mat."""

    def split(path: Path, images: str) -> tuple[tuple[str, int], ...]:
        annotations = _fields(np.atleast_1d(_mat(path, "annotations")), path, "fname")
        labels = _whole(annotations["class"], path)
        return tuple((f"{images}/{one['fname']}", label - 1) for one, label in zip(annotations, labels, strict=True))

    names = np.atleast_1d(_mat(folder / "devkit" / "cars_meta.mat", "class_names"))
    return Listing(
        folder,
        split(folder / "devkit" / "cars_train_annos.mat", "cars_train"),
        split(folder / "cars_test_annos_withlabels.mat", "cars_test"),
        tuple(str(name) for name in names),
    )


def _flowers(folder: Path) -> Listing:
    """setid.mat (trnid, valid, tstid: image numbers), imagelabels.mat (classes from 1, by image number).

    Training images are trnid and valid together: the published accuracies fit 2,040 training images, not 1,020.
    """
    file, setid = folder / "imagelabels.mat", folder / "setid.mat"
    labels = _whole(_mat(file, "labels"), file)
    ids = {key: _whole(_mat(setid, key), setid) for key in ("trnid", "valid", "tstid")}
    if not all(part and 1 <= min(part) <= max(part) <= len(labels) for part in ids.values()):
        raise UsageError(f"{folder}: setid.mat names images that imagelabels.mat does not have")

    def split(numbers: list[int]) -> tuple[tuple[str, int], ...]:
        return tuple((f"jpg/image_{number:05d}.jpg", labels[number - 1] - 1) for number in numbers)

    names = tuple(f"class {number}" for number in range(1, len(set(labels)) + 1))
    return Listing(folder, split(sorted(ids["trnid"] + ids["valid"])), split(ids["tstid"]), names)


def _dogs(folder: Path) -> Listing:
    """train_list.mat and test_list.mat (file_list, labels from 1); a class is named by its folder in Images/."""
    names: dict[int, str] = {}

    def split(path: Path) -> tuple[tuple[str, int], ...]:
        files, labels = np.atleast_1d(_mat(path, "file_list")), _whole(_mat(path, "labels"), path)
        if len(files) != len(labels):
            raise UsageError(f"{path} has {len(files)} files and {len(labels)} labels")
        for file, label in zip(files, labels, strict=True):
            name = str(file).split("/")[0]
            if names.setdefault(label, name) != name:
                raise UsageError(f"{path} says class {label} of {file}, and others of it are in {names[label]}")
        return tuple((f"Images/{file}", label - 1) for file, label in zip(files, labels, strict=True))

    train, test = split(folder / "train_list.mat"), split(folder / "test_list.mat")
    if len(set(names.values())) < len(names):
        raise UsageError(f"{folder}: the lists give the images of one folder to two classes")
    return Listing(folder, train, test, tuple(names[label] for label in sorted(names)))


def _aircraft(folder: Path) -> Listing:
    """data/variants.txt, data/images_variant_{trainval,test}.txt: image number, space, variant."""
    data = folder / "data"
    names = tuple(_lines(data / "variants.txt"))
    classes = {name: label for label, name in enumerate(names)}

    def split(path: Path) -> tuple[tuple[str, int], ...]:
        pairs = [line.partition(" ")[::2] for line in _lines(path)]
        if unknown := sorted({name for _, name in pairs} - classes.keys()):
            raise UsageError(f"{path} has variants that variants.txt lacks ({unknown[0]})")
        return tuple((f"data/images/{number}.jpg", classes[name]) for number, name in pairs)

    return Listing(folder, split(data / "images_variant_trainval.txt"), split(data / "images_variant_test.txt"), names)


def _ilsvrc(folder: Path) -> Listing:
    """train/<wnid>/ and val/<wnid>/; classes in the order of the wnids."""
    names = tuple(sorted(path.name for path in (folder / "train").glob("n*") if path.is_dir()))
    other = {path.name for path in (folder / "val").glob("n*") if path.is_dir()}
    if set(names) != other:
        raise UsageError(f"{folder}: train/ has {len(names)} class folders and val/ {len(other)}, or others")

    def split(part: str) -> tuple[tuple[str, int], ...]:
        return tuple(
            (f"{part}/{name}/{file}", label)
            for label, name in enumerate(names)
            for file in image_names(folder / part / name)
        )

    return Listing(folder, split("train"), split("val"), names)


_READERS: dict[str, Callable[[Path], Listing]] = {
    "cub": _cub,
    "cars": _cars,
    "flowers": _flowers,
    "dogs": _dogs,
    "aircraft": _aircraft,
    "ilsvrc": _ilsvrc,
}


def _whole(values: np.ndarray, path: Path) -> list[int]:
    """Labels or image numbers of a MATLAB file, which keeps them as numbers of any type."""
    try:
        numbers = np.atleast_1d(values).astype(np.float64)
        if numbers.ndim == 1 and np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all():
            return numbers.astype(np.int64).tolist()
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{path} has labels or numbers of images that are not whole numbers")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error})") from error


def _pairs(path: Path) -> dict[str, str]:
    pairs = [line.split(maxsplit=1) for line in _lines(path) if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise UsageError(f"{path} has a line that is not a number and a value")
    if len(dict(pairs)) < len(pairs):
        raise UsageError(f"{path} has a number twice")
    return dict(pairs)


def _integer(text: str, folder: Path) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{folder} has a label {text!r} that is not a number")
    return int(text)


def _mat(path: Path, key: str) -> np.ndarray:
    """One variable of a MATLAB file, which holds data alone: reading it runs no code."""
    from scipy.io import loadmat  # slow to import

    try:
        return loadmat(path, squeeze_me=True)[key]
    except KeyError:
        raise UsageError(f"{path} has no {key!r}") from None
    except Exception as error:  # a broken file can raise nearly anything
        raise UsageError(f"{path} cannot be read ({error})") from error


def _fields(annotations: np.ndarray, path: Path, field: str) -> np.ndarray:
    if field not in (annotations.dtype.names or ()) or "class" not in annotations.dtype.names:
        raise UsageError(f"{path} has no {field!r} and class in its annotations")
    return annotations
