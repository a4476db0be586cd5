"""Image sets that are too large to be kept as arrays at full size: listings of files, and small arrays made of them.

A listing says which files are the training and the test images, and which class each is of. It comes from the official
layout (`layouts.py`) or from an import (`folders.py`). Miniatures use arrays that are decoded once.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cds_lib.errors import UsageError
from cds_lib.study.data.writing import new_folder, single_writer

THREADS = 4  # decoding small files waits for the disk more than it computes
NARROW = 100  # an image that is more times as long as wide would take gigabytes once its short side is resized
_CHUNK = 1024
SHOWN = 5  # files named in an error; the rest is counted
# What Pillow may open, whatever a file is called: for an EPS that is named .jpg it would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()
)  # in any case, of what is an image in a class folder


@dataclass(frozen=True)
class Listing:
    """Files relative to `folder`, as (path, class) pairs, classes counting from 0 in the order of `class_names`."""

    folder: Path
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]

    def paths(self, split: str) -> list[Path]:
        """The files of "train" or "test"."""
        return [self.folder / name for name, _ in getattr(self, split)]

    def labels(self, split: str) -> np.ndarray:
        """Their classes (N,) int64."""
        return np.array([label for _, label in getattr(self, split)], dtype=np.int64)


@dataclass(frozen=True)
class FileData:
    """A data set as files; `provenance` as in `sets.ArrayData`, its sha256 that of `fingerprint`."""

    name: str
    train_files: tuple[Path, ...]
    train_labels: np.ndarray
    test_files: tuple[Path, ...]
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    provenance: dict


def hidden(name: str) -> bool:
    """Whether a file or folder is what file managers leave behind, never a part of a set."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")


def image_names(folder: Path) -> list[str]:
    """The images of a class folder, sorted: all that is in it and not hidden.

    UsageError, without a full stop: there is none, or something else, which must not be dropped in silence.
    """
    names = sorted(name for name in os.listdir(folder) if not hidden(name))
    if others := [name for name in names if os.path.splitext(name)[1].lower() not in SUFFIXES]:
        raise UsageError(f"{folder} holds what is not named as an image ({some(others)})")
    if not names:
        raise UsageError(f"{folder} holds no images")
    return names


def check(listing: Listing) -> None:
    """UsageError, without a full stop: a label that is none, a class without images in train or in test, an image that
    is listed twice or lies outside of the folder."""
    names = [name for split in (listing.train, listing.test) for name, _ in split]
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise UsageError(f"{listing.folder} lists images twice ({some(twice)})")
    if outside := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
        raise UsageError(f"{listing.folder} lists images outside of it ({some(outside)})")
    classes = len(listing.class_names)
    for split in ("train", "test"):
        labels = listing.labels(split)
        if not len(labels):
            raise UsageError(f"{listing.folder} lists no {split} images")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise UsageError(f"{listing.folder}: {split} labels are outside 1..{classes}")
        if empty := [listing.class_names[k] for k in np.flatnonzero(np.bincount(labels, minlength=classes) == 0)]:
            raise UsageError(f"{listing.folder} lists no {split} images of {some(empty)}")


def fingerprint(listing: Listing) -> str:
    """sha256 (hex) of the relative path, size in bytes and class of every training, then every test image.

    Contents are not read: of ImageNet that would take hours. UsageError names and counts files that are missing.
    """
    digest, missing = hashlib.sha256(), []
    for split in ("train", "test"):
        for name, label in getattr(listing, split):
            try:
                size = os.stat(listing.folder / name).st_size
            except OSError:
                missing.append(name)
                continue
            digest.update(os.fsencode(f"{split} {name} {size} {label}\n"))  # a name need not be valid UTF-8
    if missing:
        total = len(listing.train) + len(listing.test)
        raise UsageError(
            f"{len(missing)} of {total} images are missing in {listing.folder} ({some(missing)}); "
            "put them back, or fetch or import the set again."
        )
    return digest.hexdigest()


def broken_images(paths: Sequence[Path]) -> list[str]:
    """Decode every image; for each that cannot be, its path and what is wrong."""
    found = mapped(paths, _fault)
    return [f"{path}: {fault}" for path, fault in zip(paths, found, strict=True) if fault]


def refuse(broken: list[str], total: int, cure: str) -> None:
    """UsageError if there are broken images: the first few, how many of how many, and what to do."""
    if broken:
        raise UsageError(f"{len(broken)} of {total} images cannot be used ({some(broken)}); {cure}.")


def arrays(listing: Listing, name: str, root: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images (N, 3, side, side) uint8, decoded once and kept under `root`/arrays.

    An image's short side is resized to `side` (Pillow, bilinear with antialiasing), then its centre is cut out. The
    arrays are mapped, not read, and private to the caller. UsageError: images that cannot be decoded (named and
    counted), another writer, `root` not writable.
    """
    folder = root / "arrays" / f"{name}_{side}_{fingerprint(listing)[:12]}"
    if not folder.is_dir():
        with single_writer(root, f"arrays_{name}"):
            if not folder.is_dir():  # another process may have made it meanwhile
                _decode_all(listing, folder, side)
    train, test = (np.load(folder / f"{split}.npy", mmap_mode="c", allow_pickle=False) for split in ("train", "test"))
    return train, test


def decode_into(
    file: Path, paths: Sequence[Path], side: int, decode: Callable[[Path], np.ndarray | str]
) -> tuple[np.ndarray, list[str]]:
    """Decode images into a new .npy file (N, 3, side, side) uint8 that is mapped, so that memory stays small.

    `decode` gives the image of a file (3, side, side), or one phrase that says what is wrong with it. Returns the map
    and, of each file that was wrong, path and phrase. OSError: the disk is full.
    """
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(paths), 3, side, side))
    _allocate(file)
    broken = []
    for row, decoded in enumerate(mapped(paths, decode)):
        if isinstance(decoded, str):
            broken.append(f"{paths[row]}: {decoded}")
        else:
            images[row] = decoded
    images.flush()
    return images, broken


def _allocate(path: Path) -> None:
    """Take the space of a sparse file now: a full disk is an OSError here, and kills who writes into the map."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _decode_all(listing: Listing, folder: Path, side: int) -> None:
    broken = []
    with new_folder(folder, folder.parent) as building:
        for split in ("train", "test"):
            paths = listing.paths(split)
            broken += decode_into(building / f"{split}.npy", paths, side, lambda path: _square(path, side))[1]
        refuse(broken, len(listing.train) + len(listing.test), "repair them, or import the set again")


def _square(path: Path, side: int) -> np.ndarray | str:
    try:
        image = read_rgb(path)
    except Exception as error:  # Pillow's decoders raise many kinds
        return undecodable(error)
    factor = side / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def _fault(path: Path) -> str | None:
    try:
        read_rgb(path)
    except Exception as error:
        return undecodable(error)
    return None


def read_rgb(path: Path) -> Image.Image:
    """The whole image as RGB of 8 bits, as the released pipelines read it: no transparency, no rotation by EXIF.

    Raises what Pillow's decoders raise, also for what is not of `FORMATS`, and ValueError for an image that would
    silently become another: of more than 8 bits a channel (Pillow clips them to 255), or too narrow to be cut to a
    square.
    """
    with Image.open(path, formats=FORMATS) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has more than 8 bits a channel, as Pillow's mode {image.mode}")
        if max(image.size) > NARROW * min(image.size):
            raise ValueError(f"it is {image.width} x {image.height}, too narrow")
        return image.convert("RGB")


def undecodable(error: Exception) -> str:
    """What is wrong with a file that Pillow cannot decode, in one phrase."""
    return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def mapped(paths: Sequence[Path], function: Callable[[Path], Any]) -> Iterator[Any]:
    """The function of every path, in order, by a few threads and a part of the paths at a time.

    Of many images it takes hours, and says from half a minute on how many are done.
    """
    pending, quiet = iter(paths), {"delay": 30, "mininterval": 0.5 if sys.stderr.isatty() else 30}
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(paths), desc="  images decoded", **quiet) as bar:
        while chunk := list(islice(pending, _CHUNK)):  # map() alone would hold every result at once
            yield from pool.map(function, chunk)
            bar.update(len(chunk))


def some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
