"""Load a data set, real or stand-in, as uint8 arrays. Nothing is downloaded here (see fetch)."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import coco, folders, image_files, layouts, standin
from cds_lib.study.data.coco import DetectionData
from cds_lib.study.data.listing import Arrays
from cds_lib.study.data.registry import DataSet, entry
from cds_lib.study.data.registry import data_root as default_data_root
from cds_lib.study.files import read_json

STANDIN_SIZE = 32  # side of stand-in images where no size is asked for
FETCHED = "fetched.json"  # in a fetched folder of image files: the fingerprint of what was unpacked
CHUNK = 2048  # images averaged at a time: keeps the temporary arrays near 10 MiB at 32 x 32


@dataclass(frozen=True)
class ArrayData:
    """A data set in memory, or its files.

    Images (N, 3, H, W) uint8 RGB, C-contiguous, or, of `load_files`, (N,) paths; labels (N,) int64 in
    0..len(class_names)-1. `provenance` says what these images are: kind ("standin", "official" or "imported"), complete
    (the official number of images and classes), verified (every file, or every archive it came from, has its published
    md5), train and test (counts), sha256 (of images and labels before any resizing, see `Arrays.fingerprint`; of sets
    that are read as files see `Listing.fingerprint`), note (one sentence).
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
    images with the class count of the set, `data_root` is not used. `image_size`: CIFAR is shrunk to this side by area
    averaging (None: not at all), image files as by `image_files.arrays`, and stand-ins are made at it. The arrays are
    writable and the caller's own. Raises UsageError: unknown name or source, data missing (says what to run) or broken,
    a size that is larger than the images.
    """
    known, side = entry(name), STANDIN_SIZE if image_size is None else image_size
    if source == "standin":
        made = standin.make(known.classes, side, max(standin.TRAIN, known.classes), max(standin.TEST, known.classes))
        note = "stand-in images made from scikit-learn's digits and photographs: accuracies on them mean nothing"
        return ArrayData(name, *made, _provenance(known, "standin", made, False, made.fingerprint(), note))
    if source != "real":
        raise UsageError(f"unknown data source {source!r}; choose standin or real.")
    root = default_data_root(data_root)
    data = load_real(known, root)
    if known.image_size is None:
        splits = {"train": data.train_images, "test": data.test_images}
        train, test = image_files.arrays(splits, f"{name}_{side}_{data.provenance['sha256'][:12]}", root, side)
    elif image_size is None:
        return data
    else:
        train, test = (area_average(images, image_size) for images in (data.train_images, data.test_images))
    return replace(data, train_images=train, test_images=test)


def load_files(name: str, data_root: Path | None) -> ArrayData:
    """Load the paths of a set of image files, for training that decodes as it goes. Raises UsageError, as `load`."""
    return load_real(entry(name), default_data_root(data_root))


def load_real(known: DataSet, root: Path) -> ArrayData | DetectionData:
    """The official files in `root`, else what was imported: CIFAR's images as they are, the paths of larger ones, or
    COCO. Raises UsageError."""
    if known.layout == "coco":
        return coco.load(root)
    kind, verified, how = "official", False, "no published checksum to compare with"
    if known.is_official(root):
        unpublished = known.unpublished(root) if known.image_size else ()  # before anything is unpickled
        held = layouts.read(known, root)
        sha256 = held.fingerprint()
        if known.image_size:
            verified, how = not unpublished, "every checksum the published one"
        elif verified := _fetched(root / known.folder / FETCHED) == sha256:
            how = "every archive had the published checksum"
        if unpublished:
            how = f"checksum not the published one: {', '.join(unpublished)}"
    elif known.imported(root).is_dir():
        kind, (held, info) = "imported", folders.read_imported(known, root)
        sha256 = held.fingerprint()
        if sha256 != info["sha256"]:
            raise UsageError(
                f"the images of {known.title} have changed since they were imported; delete "
                f"{known.imported(root)} and import again."
            )
    else:
        raise UsageError(known.missing(root))
    arrays = held if known.image_size else held.arrays()
    note = f"{'official layout' if kind == 'official' else 'imported from image folders'}, {{extent}}, {how}"
    return ArrayData(known.name, *arrays, _provenance(known, kind, arrays, verified, sha256, note))


def _fetched(file: Path) -> Any:
    """The fingerprint of what was unpacked from archives with the published md5; None if it is not recorded."""
    try:
        return read_json(file).get("sha256")
    except (OSError, ValueError):
        return None


def _provenance(known: DataSet, kind: str, of: Arrays, verified: bool, sha256: str, note: str) -> dict[str, Any]:
    """As in `ArrayData`; in `note` {extent} is replaced by how complete the set is."""
    classes, train, test = len(of.class_names), len(of.train_labels), len(of.test_labels)
    complete = (classes, train, test) == (known.classes, known.train, known.test)
    images = f"{train} of {known.train} training, {test} of {known.test} test images"
    extent = "complete" if complete else f"a subset ({classes} of {known.classes} classes, {images})"
    counts = {"complete": complete, "verified": verified, "train": train, "test": test}
    return {"kind": kind, **counts, "sha256": sha256, "note": note.replace("{extent}", extent)}


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Shrink square images: a pixel is the mean of the square that it covers, S / size pixels wide.

    `images` (N, C, S, S) uint8 -> (N, C, size, size) uint8. The mean is exact (integer sums) and rounded to the
    nearest integer, halves upwards, as Pillow's box filter does. Returns `images` itself when `size` is its side
    already. Raises UsageError when the images are not square or smaller than `size`.
    """
    count, channels, height, width = images.shape
    if height != width or not 1 <= size <= height:
        raise UsageError(f"images of {height} x {width} cannot be averaged to {size} x {size}: choose 1 to {height}.")
    if size == height:
        return images
    # Where k is no whole number every pixel is first repeated: 32 -> 24 is 96 -> 24.
    copies = size // math.gcd(height, size)
    k = height * copies // size
    wide = np.min_scalar_type(255 * k * k + k * k // 2)  # the smallest integer type that holds the sum of one square
    result = np.empty((count, channels, size, size), np.uint8)
    for start in range(0, count, CHUNK):
        chunk = images[start : start + CHUNK].repeat(copies, 2).repeat(copies, 3)
        total = sum(chunk[..., i::k, j::k].astype(wide) for i in range(k) for j in range(k))
        result[start : start + CHUNK] = (total + wide.type(k * k // 2)) // wide.type(k * k)
    return result
