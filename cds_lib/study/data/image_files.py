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
    count = Counter(name for name, _ in listing.train + listing.test)
    if twice := [name for name in count if count[name] > 1]:
        raise UsageError(f"{listing.folder} lists images twice ({some(twice)})")
    if outside := [name for name in count if name.startswith("/") or ".." in name.split("/")]:
        raise UsageError(f"{listing.folder} lists images outside of it ({some(outside)})")
    classes = range(len(listing.class_names))
    for split in ("train", "test"):
        labels = set(listing.labels(split).tolist())
        if not labels <= set(classes):
            raise UsageError(f"{listing.folder}: {split} labels are outside 1..{len(classes)}")
        if empty := [listing.class_names[label] for label in classes if label not in labels]:
            raise UsageError(f"{listing.folder} lists no {split} images of {some(empty)}")


def fingerprint(listing: Listing) -> str:
    """sha256 (hex) of the relative path, size in bytes and class of every training, then every test image.

    Contents are not read: of ImageNet that would take hours. UsageError names and counts files that are missing.
    """
    digest, missing = hashlib.sha256(), []
    for split, listed in (("train", listing.train), ("test", listing.test)):
        for name, label in listed:
            try:
                size = os.stat(listing.folder / name).st_size
                digest.update(os.fsencode(f"{split} {name} {size} {label}\n"))  # a name need not be valid UTF-8
            except OSError:
                missing.append(name)
    if missing:
        total = len(listing.train) + len(listing.test)
        raise UsageError(
            f"{len(missing)} of {total} images are missing in {listing.folder} ({some(missing)}); "
            "put them back, or fetch or import the set again."
        )
    return digest.hexdigest()


def broken_images(paths: Sequence[Path]) -> list[str]:
    """Decode every image; for each that cannot be, its path and what is wrong."""
    found = decoded(paths, lambda image: None)
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
    file: Path, paths: Sequence[Path], side: int, use: Callable[[Image.Image], np.ndarray | str]
) -> tuple[np.ndarray, list[str]]:
    """Decode images into a new .npy file (N, 3, side, side) uint8 that is mapped, so that memory stays small.

    `use` makes of an image its array (side, side, 3), or one phrase that says what is wrong. Returns the map and, of
    each file that was wrong, path and phrase. OSError: the disk is full.
    """
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(paths), 3, side, side))
    if hasattr(os, "posix_fallocate"):  # not on macOS; of a sparse file a full disk kills who writes into the map
        with open(file, "r+b") as whole:
            os.posix_fallocate(whole.fileno(), 0, file.stat().st_size)
    broken = []
    for row, made in enumerate(decoded(paths, use)):
        if isinstance(made, str):
            broken.append(f"{paths[row]}: {made}")
        else:
            images[row] = made.transpose(2, 0, 1)
    images.flush()
    return images, broken


def _decode_all(listing: Listing, folder: Path, side: int) -> None:
    broken = []
    with new_folder(folder, folder.parent) as building:
        for split in ("train", "test"):
            file = building / f"{split}.npy"
            broken += decode_into(file, listing.paths(split), side, lambda image: square(image, side))[1]
        refuse(broken, len(listing.train) + len(listing.test), "repair them, or import the set again")


def square(image: Image.Image, side: int) -> np.ndarray:
    """The centre (side, side, 3) uint8 of the image, whose short side is resized to `side`."""
    factor = side / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


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


def decoded(paths: Sequence[Path], use: Callable[[Image.Image], Any]) -> Iterator[Any]:
    """What `use` makes of every image, in order; of one that cannot be decoded, a phrase that says why.

    A few threads decode a part of the images at a time. Of many it takes hours, and says from half a minute on how
    many are done.
    """

    def one(path: Path) -> Any:
        try:
            image = read_rgb(path)
        except Exception as error:  # Pillow's decoders raise many kinds
            return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        return use(image)

    quiet = {"delay": 30, "mininterval": 0.5 if sys.stderr.isatty() else 30}
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(paths), desc="  images decoded", **quiet) as bar:
        for start in range(0, len(paths), _CHUNK):  # map() alone would hold every result at once
            for made in pool.map(one, paths[start : start + _CHUNK]):
                yield made
                bar.update()


def some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
