"""What the readers of images (`layouts.py`, `folders.py`) return: arrays, or the files of a set that is too large for
memory, with the class of each."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cds_lib.errors import UsageError

PUT_BACK = "put them back, or fetch or import the set again"
SHOWN = 5  # words named in an error; the rest is counted
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()
)  # in any case, of what is an image in a class folder

Split = tuple[tuple[str, int], ...]


class Arrays(NamedTuple):
    """Images (N, 3, H, W) uint8, labels (N,) int64 counting from 0, and one name per class."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def fingerprint(self) -> str:
        """sha256 (hex) of train images, train labels, test images, test labels; labels as little-endian int64."""
        digest = hashlib.sha256()
        for images, labels in ((self.train_images, self.train_labels), (self.test_images, self.test_labels)):
            digest.update(np.ascontiguousarray(images).data)
            digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Listing:
    """Files relative to `folder`, as (path, class) pairs, classes counting from 0 in the order of `class_names`.

    UsageError, without a full stop: a label out of range, a class without images in train or in test, an image that is
    listed twice or lies outside of the folder.
    """

    folder: Path
    train: Split
    test: Split
    class_names: tuple[str, ...]

    def __post_init__(self):
        count = Counter(name for name, _ in self.train + self.test)
        if twice := [name for name in count if count[name] > 1]:
            raise UsageError(f"{self.folder} lists images twice ({some(twice)})")
        if outside := [name for name in count if leads_out(name)]:
            raise UsageError(f"{self.folder} lists images outside of it ({some(outside)})")
        classes = range(len(self.class_names))
        for part, split in (("train", self.train), ("test", self.test)):
            labels = {label for _, label in split}
            if not labels <= set(classes):
                raise UsageError(f"{self.folder}: {part} labels are outside 1..{len(classes)}")
            if empty := [self.class_names[label] for label in classes if label not in labels]:
                raise UsageError(f"{self.folder} lists no {part} images of {some(empty)}")

    def arrays(self) -> Arrays:
        """As arrays, with paths in place of images."""
        parts = []
        for split in (self.train, self.test):
            parts.append(np.array([self.folder / name for name, _ in split], object))
            parts.append(np.array([label for _, label in split], np.int64))
        return Arrays(*parts, self.class_names)

    def fingerprint(self) -> str:
        """sha256 (hex) of the relative path, size in bytes and class of every training, then every test image.

        Contents are not read: of ImageNet that would take hours. UsageError names and counts files that are missing.
        """
        digest, missing = hashlib.sha256(), []
        for part, split in (("train", self.train), ("test", self.test)):
            for name, label in split:
                try:
                    size = os.stat(self.folder / name).st_size
                    digest.update(os.fsencode(f"{part} {name} {size} {label}\n"))  # a name need not be valid UTF-8
                except OSError:
                    missing.append(name)
        total = len(self.train) + len(self.test)
        refuse(missing, total, f"are missing in {self.folder}", PUT_BACK)
        return digest.hexdigest()


def leads_out(name: str) -> bool:
    """Whether a path of a list leads out of the folder that it is relative to."""
    return name.startswith("/") or ".." in name.split("/")


def refuse(faulty: Sequence[str], total: int, what: str, cure: str) -> None:
    """UsageError if there are faulty images: how many of how many, what they are, the first few, and what to do."""
    if faulty:
        raise UsageError(f"{len(faulty)} of {total} images {what} ({some(faulty)}); {cure}.")


def class_folders(folder: Path, train: str, test: str) -> Listing:
    """The images of folder/train/<class>/ and folder/test/<class>/; classes in the order of their names, each sorted.

    UsageError, without a full stop: the two differ in their classes, or a class folder holds something else.
    """
    names, others = (
        sorted(d.name for d in (folder / part).iterdir() if d.is_dir() and not hidden(d.name)) for part in (train, test)
    )
    if differing := sorted(set(names) ^ set(others)):
        raise UsageError(f"{folder}: training and test classes differ ({some(differing)})")

    def split(part: str) -> Split:
        listed = [(name, label, image_names(folder / part / name)) for label, name in enumerate(names)]
        return tuple((f"{part}/{name}/{file}", label) for name, label, files in listed for file in files)

    return Listing(folder, split(train), split(test), tuple(names))


def hidden(name: str) -> bool:
    """Whether a file or folder was left behind by a file manager, and is no part of a set."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")


def image_names(folder: Path) -> list[str]:
    """The images of a class folder, sorted. UsageError, without a full stop: there is none, or anything else that is
    not hidden."""
    names = sorted(name for name in os.listdir(folder) if not hidden(name))
    if others := [name for name in names if os.path.splitext(name)[1].lower() not in SUFFIXES]:
        raise UsageError(f"{folder} holds what is not named as an image ({some(others)})")
    if not names:
        raise UsageError(f"{folder} holds no images")
    return names


def some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
