"""A loaded set of images: arrays or, if these would not fit into memory, the paths of its files."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cds_lib.errors import UsageError

PUT_BACK = "put them back, or fetch or import the set again"
SHOWN = 5  # words named in an error; the rest are counted
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()
)  # of images in a class folder, in upper or lower case

Listed = Sequence[tuple[str, int]]  # (path below the set's folder, class) of each image


class Images(NamedTuple):
    """Images (N, 3, H, W) uint8 RGB, C-contiguous, or (N,) paths below `folder`; labels (N,) int64 in
    0..len(class_names)-1; `provenance` describes the images, see `DataSet.provenance`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    folder: Path | None = None
    provenance: dict[str, Any] = {}

    @property
    def counts(self) -> tuple[int, int, int]:
        """Classes, training images, test images."""
        return len(self.class_names), len(self.train_labels), len(self.test_labels)

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of train and test images and labels, in field order; labels as little-endian int64.

        For files, hash the relative path, size in bytes and class of every training, then every test image. Contents
        are not read: ImageNet would take hours. UsageError names and counts missing files.
        """
        digest, missing = hashlib.sha256(), []
        if self.folder is None:
            for array in self[:4]:
                kind = array.dtype if array.ndim > 1 else "<i8"
                digest.update(np.ascontiguousarray(array, kind).data)
        for part, files in self.listing().items():
            for name, label in files:
                try:
                    size = os.stat(self.folder / name).st_size
                    digest.update(os.fsencode(f"{part} {name} {size} {label}\n"))  # a name need not be valid UTF-8
                except OSError:
                    missing.append(name)
        refuse(missing, sum(self.counts[1:]), f"are missing in {self.folder}", PUT_BACK)
        return digest.hexdigest()

    def listing(self) -> dict[str, list[tuple[str, int]]]:
        """Return {"train" or "test": [(path below `folder`, class) of each file]}; {} for arrays."""
        splits = {"train": self[:2], "test": self[2:4]} if self.folder else {}
        return {
            part: [
                (str(path).removeprefix(f"{self.folder}/"), label)
                for path, label in zip(images, labels.tolist(), strict=True)
            ]
            for part, (images, labels) in splits.items()
        }


def listed(folder: Path, train: Listed, test: Listed, class_names: Sequence[str]) -> Images:
    """Return the paths of images. UsageError (without a full stop): one is listed twice or lies outside the folder."""
    count = Counter(name for name, _ in (*train, *test))
    if wrong := [name for name in count if count[name] > 1 or leads_out(name)]:
        raise UsageError(f"{folder} lists images twice, or outside of it ({some(wrong)})")
    parts = []
    for split in (train, test):
        parts.append(np.array([folder / name for name, _ in split], object))
        parts.append(np.array([label for _, label in split], np.int64))
    return Images(*parts, tuple(class_names), folder)


def leads_out(name: str) -> bool:
    """Whether a listed path leads out of the folder that it is relative to."""
    return name.startswith("/") or ".." in name.split("/")


def refuse(faulty: Sequence[str], total: int, what: str, cure: str) -> None:
    """Raise UsageError if there are faulty images, with their number, the fault, the first few names and the cure."""
    if faulty:
        raise UsageError(f"{len(faulty)} of {total} images {what} ({some(faulty)}); {cure}.")


def class_folders(folder: Path, *tests: str) -> Images:
    """Read train/<class>/ and <test>/<class>/, where <test> is the one of `tests` that exists. Classes and the images
    of each are sorted by name.

    UsageError (without a full stop): train/ is missing, not exactly one of `tests` exists, the two parts differ in
    their classes, or a class folder holds anything else.
    """
    parts = [part for part in ("train", *tests) if (folder / part).is_dir()]
    if len(parts) != 2 or parts[0] != "train":
        raise UsageError(f"{folder} must hold train/ and either of {'/, '.join(tests)}/, and holds {parts}")
    names, others = (
        sorted(d.name for d in (folder / part).iterdir() if d.is_dir() and not hidden(d.name)) for part in parts
    )
    if differing := sorted(set(names) ^ set(others)):
        raise UsageError(f"{folder}: training and test classes differ ({some(differing)})")
    splits = (
        [
            (f"{part}/{name}/{file}", label)
            for label, name in enumerate(names)
            for file in image_names(folder / part / name)
        ]
        for part in parts
    )
    return listed(folder, *splits, names)


def hidden(name: str) -> bool:
    """Whether a file or folder is a file manager's leftover or hidden, and so no part of a set."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")


def image_names(folder: Path) -> list[str]:
    """List the images of a class folder, sorted. UsageError (without a full stop) if it has none, or holds anything
    else that is not hidden."""
    names = sorted(name for name in os.listdir(folder) if not hidden(name))
    others = [name for name in names if os.path.splitext(name)[1].lower() not in SUFFIXES]
    if others or not names:
        raise UsageError(
            f"{folder} holds {f'what is not named as an image ({some(others)})' if others else 'no images'}"
        )
    return names


def some(words: Sequence[str]) -> str:
    """Name the first few words, and say how many more there are."""
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
