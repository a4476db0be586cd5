"""Load a data set, real or stand-in, as uint8 arrays. Nothing is downloaded here (see fetch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar, fetch, folders, image_files, layouts, standin
from cds_lib.study.data.arrays import Arrays, area_average, fingerprint
from cds_lib.study.data.image_files import FileData, Listing
from cds_lib.study.data.registry import DataSet, entry
from cds_lib.study.data.registry import data_root as default_data_root

STANDIN_SIZE = 32  # side of stand-in images where no size is asked for


@dataclass(frozen=True)
class ArrayData:
    """A data set in memory.

    Images (N, 3, H, W) uint8 RGB, C-contiguous; labels (N,) int64 in 0..len(class_names)-1. `provenance` says what
    these images are: kind ("standin", "official" or "imported"), complete (the official number of images and classes),
    verified (every file, or every archive it came from, has its published md5), train and test (counts), sha256 (of
    images and labels before any resizing, see `arrays.fingerprint`; of sets that are read as files see
    `image_files.fingerprint`), note (one sentence).
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    provenance: dict


def load(name: str, data_root: Path | None, source: str, image_size: int | None = None) -> ArrayData:
    """Load data set `name`.

    `source` "real": the official files in `data_root`, else the images imported there. `source` "standin": made-up
    images with the class count of the set, `data_root` is not used. `image_size`: of CIFAR the side to shrink to by
    area averaging (None: as they are); of image files the side that `image_files.arrays`
    brings them to; stand-ins are made at that size. The arrays are writable and the caller's own. Raises UsageError:
    unknown name or source, data missing (says what to run) or broken, a size that is larger than the images.
    """
    known = entry(name)
    if source == "standin":
        size = STANDIN_SIZE if image_size is None else image_size
        arrays = standin.make(known.classes, size, max(standin.TRAIN, known.classes), max(standin.TEST, known.classes))
        note = "stand-in images made from scikit-learn's digits and photographs: accuracies on them mean nothing"
        return _array_data(known, arrays, "standin", False, note)
    if source != "real":
        raise UsageError(f"unknown data source {source!r}; choose standin or real.")
    root = default_data_root() if data_root is None else Path(data_root)
    if known.image_size is None:
        listing, provenance = _listing(known, root)
        train, test = image_files.arrays(listing, name, root, STANDIN_SIZE if image_size is None else image_size)
        labels = listing.labels("train"), listing.labels("test")
        return ArrayData(name, train, labels[0], test, labels[1], listing.class_names, provenance)
    data = load_real(known, root)
    if image_size is None:
        return data
    train, test = (area_average(images, image_size) for images in (data.train_images, data.test_images))
    return ArrayData(name, train, data.train_labels, test, data.test_labels, data.class_names, data.provenance)


def load_files(name: str, data_root: Path | None) -> FileData:
    """Load the listing of a set of image files, for training that decodes as it goes. Raises UsageError, as `load`."""
    known = entry(name)
    listing, provenance = _listing(known, default_data_root() if data_root is None else Path(data_root))
    train, test = (tuple(listing.paths(split)) for split in ("train", "test"))
    labels = listing.labels("train"), listing.labels("test")
    return FileData(name, train, labels[0], test, labels[1], listing.class_names, provenance)


def _listing(known: DataSet, root: Path) -> tuple[Listing, dict]:
    """The images of a set of files and where they come from: the official layout in `root`, else an import."""
    if known.is_official(root):
        listing, kind = layouts.read(known, root), "official"
        sha256 = image_files.fingerprint(listing)
        verified = fetch.is_verified(known, root, sha256)
        how = "every archive had the published checksum" if verified else "no published checksum to compare with"
    elif folders.imported_folder(known, root).is_dir():
        listing, info = folders.read_listing(known, root)
        sha256, kind, verified = image_files.fingerprint(listing), "imported", False
        if sha256 != info["sha256"]:
            raise UsageError(
                f"the images in {listing.folder} have changed since they were imported; delete "
                f"{folders.imported_folder(known, root)} and import again."
            )
        how = "no published checksum to compare with"
    else:
        raise UsageError(missing(known, root))
    counts = len(listing.class_names), len(listing.train), len(listing.test)
    return listing, _provenance(known, kind, counts, verified, sha256, how)


def load_real(known: DataSet, root: Path) -> ArrayData:
    """CIFAR's images at full resolution: the official files in `root`, else the imported arrays. Raises UsageError."""
    official = root / known.folder
    if known.layout and official.is_dir():
        arrays, unpublished = cifar.read(known, official)
        wrong = f"checksum not the published one: {', '.join(unpublished)}"
        how = wrong if unpublished else "every checksum the published one"
        return _array_data(known, arrays, "official", not unpublished, how)
    if folders.imported_folder(known, root).is_dir():
        arrays, info = folders.read_imported(known, root)
        data = _array_data(known, arrays, "imported", False, "no published checksum to compare with")
        if data.provenance["sha256"] != info["sha256"]:
            folder = folders.imported_folder(known, root)
            raise UsageError(
                f"the arrays in {folder} have changed since they were imported; delete that folder and import again."
            )
        return data
    raise UsageError(missing(known, root))


def missing(known: DataSet, root: Path) -> str:
    """One sentence that says that the set is not there and what to run."""
    where = f"--data-root {root}"
    if (root / known.name / "train").is_dir():
        return (
            f"the images in {root / known.name} have not been imported yet; run "
            f"`python -m cds_lib data import {known.name} --folder {root / known.name} {where}`."
        )
    return (
        f"{known.title} is not in {root}; run `python -m cds_lib data fetch {known.name} {where}`, "
        f"or, if you hold its images as train/<class>/ and test/<class>/, "
        f"`python -m cds_lib data import {known.name} --folder FOLDER {where}`."
    )


def _array_data(known: DataSet, arrays: Arrays, kind: str, verified: bool, how: str) -> ArrayData:
    counts = len(arrays.class_names), len(arrays.train_labels), len(arrays.test_labels)
    return ArrayData(known.name, *arrays, _provenance(known, kind, counts, verified, fingerprint(arrays), how))


def _provenance(
    known: DataSet, kind: str, counts: tuple[int, int, int], verified: bool, sha256: str, how: str
) -> dict[str, Any]:
    """As `ArrayData` has it; counts: classes, training and test images; how: it was verified, in words."""
    classes, train, test = counts
    complete = counts == (known.classes, known.train, known.test)
    images = f"{train} of {known.train} training, {test} of {known.test} test images"
    extent = "complete" if complete else f"a subset ({classes} of {known.classes} classes, {images})"
    layout = {"official": "official layout", "imported": "imported from image folders"}
    return {
        "kind": kind,
        "complete": complete,
        "verified": verified,
        "train": train,
        "test": test,
        "sha256": sha256,
        "note": how if kind == "standin" else f"{layout[kind]}, {extent}, {how}",
    }
