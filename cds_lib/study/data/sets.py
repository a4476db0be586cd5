"""Load a data set, real or stand-in, as uint8 arrays. Nothing is downloaded here (see fetch)."""

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import coco, folders, image_files, layouts, standin
from cds_lib.study.data.coco import DetectionData
from cds_lib.study.data.images import Images
from cds_lib.study.data.registry import DataSet, entry
from cds_lib.study.data.registry import data_root as default_data_root
from cds_lib.study.files import read_json

STANDIN_SIZE = 32  # default side of stand-in images
FETCHED = "fetched.json"  # in a fetched folder of image files: the fingerprint of what was unpacked
CHUNK = 2048  # images averaged at a time: keeps the temporary arrays near 10 MiB at 32 x 32


def load(name: str, data_root: Path | None, source: str, image_size: int | None = None) -> Images:
    """Load data set `name`.

    `source` "real" reads the official files in `data_root`, else the images imported there. `source` "standin" makes
    images with the class count of the set; `data_root` is not used. `image_size` is a side: CIFAR is shrunk to it by
    area averaging (None: not at all), image files as by `image_files.arrays`, and stand-ins are made at it. The arrays
    are writable and the caller's own. Raises UsageError: unknown name or source, data missing (says what to run) or
    broken, a size that is larger than the images.
    """
    known = entry(name)
    side = known.image_size or STANDIN_SIZE if image_size is None else image_size
    if source == "standin":
        made = standin.make(known.classes, side, max(standin.TRAIN, known.classes), max(standin.TEST, known.classes))
        note = "stand-in images made from scikit-learn's digits and photographs: accuracies on them mean nothing"
        return made._replace(provenance=known.provenance("standin", made.counts, made.fingerprint(), note))
    if source != "real":
        raise UsageError(f"unknown data source {source!r}; choose standin or real.")
    root = default_data_root(data_root)
    data = load_real(known, root)
    if known.image_size:
        train, test = (area_average(images, side) for images in (data.train_images, data.test_images))
    else:
        splits = {"train": data.train_images, "test": data.test_images}
        train, test = image_files.arrays(splits, f"{name}_{side}_{data.provenance['sha256'][:12]}", root, side)
    return data._replace(train_images=train, test_images=test)


def load_files(name: str, data_root: Path | None) -> Images:
    """Load the paths of a set of image files, for training that decodes as it goes. Raises UsageError, as `load`."""
    known = entry(name)
    held = load_real(known, default_data_root(data_root))
    if known.image_size:
        raise UsageError(f"{known.title} has images of {known.image_size} pixels: choose an image_size up to that.")
    return held


def load_real(known: DataSet, root: Path) -> Images | DetectionData:
    """Load the official files in `root`, else the imported ones: CIFAR's images as they are, the paths of larger
    images, or COCO. Raises UsageError."""
    if known.layout == "coco":
        return coco.load(root)
    if known.is_official(root):
        wrong = known.unpublished(root)  # before anything is unpickled
        held = layouts.read(known, root)
        sha256 = held.fingerprint()
        verified = not wrong and (known.image_size is not None or _fetched(root / known.folder) == sha256)
        how = "every checksum the published one" if verified else "no published checksum to compare with"
        if wrong:
            how = f"checksum not the published one: {', '.join(wrong)}"
        return held._replace(provenance=known.provenance("official", held.counts, sha256, how, verified))
    if not known.imported(root).is_dir():
        raise UsageError(known.missing(root))
    held, info = folders.read_imported(known, root)
    sha256 = held.fingerprint()
    if sha256 != info["sha256"]:
        raise UsageError(
            f"the images of {known.title} have changed since they were imported; delete {known.imported(root)} and "
            "import again."
        )
    return held._replace(provenance=known.provenance("imported", held.counts, sha256))


def _fetched(folder: Path) -> Any:
    """Return the fingerprint of files unpacked from archives with the published md5; None if it was not recorded."""
    with contextlib.suppress(OSError, ValueError):
        return read_json(folder / FETCHED).get("sha256")


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
    # If S / size is not a whole number, every pixel is first repeated: 32 -> 24 becomes 96 -> 24.
    copies = size // math.gcd(height, size)
    k = height * copies // size
    wide = np.min_scalar_type(255 * k * k + k * k // 2)  # the smallest integer type that holds the sum of one square
    result = np.empty((count, channels, size, size), np.uint8)
    step = max(1, CHUNK // copies**2)
    for start in range(0, count, step):
        chunk = images[start : start + step].repeat(copies, 2).repeat(copies, 3)
        total = sum(chunk[..., i::k, j::k].astype(wide) for i in range(k) for j in range(k))
        result[start : start + step] = (total + wide.type(k * k // 2)) // wide.type(k * k)
    return result
