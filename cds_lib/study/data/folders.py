"""Import images held as train/<class>/... and test|val/<class>/...

Images of one small size (CIFAR) are decoded once and kept as arrays. Of larger ones a listing is kept: they stay where
they are, and are read from there.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import image_files
from cds_lib.study.data.arrays import Arrays, fingerprint
from cds_lib.study.data.image_files import Listing, hidden, image_names, some
from cds_lib.study.data.registry import DataSet
from cds_lib.study.data.writing import new_folder, single_writer

ARRAYS = Arrays._fields[:4]  # one .npy file each; the class names are in info.json
_CURE = "repair or remove them, then import again"


def imported_folder(entry: DataSet, root: Path) -> Path:
    """Where the imported arrays, or the listing, of a data set lie."""
    return root / "imported" / entry.name


def import_folder(entry: DataSet, folder: Path, root: Path) -> dict:
    """Decode an image folder and store it, or its listing, under `root/imported/<name>/`; returns its info.json.

    Classes are the folder names in alphabetical order (the official label order of CIFAR). A subset of classes or
    images is allowed and recorded as such. Raises UsageError: missing or differing class folders, more classes or
    images than the set has, any image that cannot be decoded or has another size than the set's (if all have one),
    imported before, another writer.
    """
    splits = {"train": _split_folder(folder, ("train",)), "test": _split_folder(folder, ("test", "val"))}
    names = {
        split: sorted(d.name for d in path.iterdir() if d.is_dir() and not hidden(d.name))
        for split, path in splits.items()
    }
    if differing := sorted(set(names["train"]) ^ set(names["test"])):
        raise UsageError(
            f"{folder}: training and test classes differ ({some(differing)}); both need the same class folders."
        )
    if not 1 < len(names["train"]) <= entry.classes:
        raise UsageError(
            f"{folder}/train has {len(names['train'])} class folders, but {entry.title} has {entry.classes} classes; "
            "give the folder that holds train/<class>/ and test/<class>/."
        )
    files = {split: _image_files(path, names[split]) for split, path in splits.items()}
    for split, official in (("train", entry.train), ("test", entry.test)):
        if len(files[split]) > official:
            raise UsageError(
                f"{splits[split]} holds {len(files[split])} files, more than the {official} images of {entry.title}."
            )
    target = imported_folder(entry, root)
    with single_writer(root, entry.name):
        if target.exists():
            raise UsageError(f"{entry.name} was imported before; delete {target} to import it again.")
        write = _write_listing if entry.image_size is None else _write
        with new_folder(target, root) as building:
            info = write(entry, files, tuple(names["train"]), building)
    return info


def read_imported(entry: DataSet, root: Path) -> tuple[Arrays, dict]:
    """The imported arrays and their info.json. Raises UsageError if a file is missing, broken or of another shape.

    The caller compares `fingerprint` of the arrays with info["sha256"].
    """
    folder = imported_folder(entry, root)
    try:
        info = json.loads((folder / "info.json").read_text())
        loaded = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS]
        arrays = Arrays(*loaded, tuple(info["class_names"]))
        side = entry.image_size
        for part, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:4])):
            if images.shape != (info[part], 3, side, side) or labels.shape != (info[part],):
                raise ValueError(f"{part} arrays of shape {images.shape} and {labels.shape}")
            if images.dtype != np.uint8 or labels.dtype != np.int64:
                raise ValueError(f"{part} arrays of type {images.dtype} and {labels.dtype}")
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise UsageError(
            f"the imported arrays in {folder} are broken ({error}); delete that folder and import again."
        ) from error
    return arrays, info


def read_listing(entry: DataSet, root: Path) -> tuple[Listing, dict]:
    """The imported listing and its info.json. Raises UsageError if either is missing or broken."""
    folder = imported_folder(entry, root)
    try:
        info = json.loads((folder / "info.json").read_text())
        listed = json.loads((folder / "listing.json").read_text())
        splits = [tuple((str(name), int(label)) for name, label in listed[part]) for part in ("train", "test")]
        listing = Listing(Path(info["folder"]), *splits, tuple(info["class_names"]))
        image_files.check(listing)
        return listing, info
    except (UsageError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"the imported listing in {folder} is broken ({error}); delete that folder and import again."
        ) from error


def _write_listing(
    entry: DataSet, files: dict[str, list[tuple[Path, int]]], names: tuple[str, ...], folder: Path
) -> dict:
    """Decode every image to check it, and keep the listing."""
    paths = [path for listed in files.values() for path, _ in listed]
    image_files.refuse(image_files.broken_images(paths), len(paths), _CURE)
    above = files["train"][0][0].parents[2].absolute()
    splits = {
        split: tuple((str(path.absolute().relative_to(above)), label) for path, label in listed)
        for split, listed in files.items()
    }
    listing = Listing(above, splits["train"], splits["test"], names)
    info = _info(entry, files, names, image_files.fingerprint(listing)) | {"folder": str(above)}
    (folder / "listing.json").write_text(json.dumps(splits))
    (folder / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def _info(entry: DataSet, files: dict[str, list], names: tuple[str, ...], sha256: str) -> dict:
    counts = {split: len(listed) for split, listed in files.items()}
    return {
        "name": entry.name,
        **counts,
        "complete": (len(names), counts["train"], counts["test"]) == (entry.classes, entry.train, entry.test),
        "sha256": sha256,
        "class_names": list(names),
    }


def _write(entry: DataSet, files: dict[str, list[tuple[Path, int]]], names: tuple[str, ...], folder: Path) -> dict:
    """Decode every image into an array."""
    decode = partial(_decode, side=entry.image_size)
    broken, arrays = [], []
    for split, listed in files.items():
        paths = [path for path, _ in listed]
        images, wrong = image_files.decode_into(folder / f"{split}_images.npy", paths, entry.image_size, decode)
        broken += wrong
        labels = np.array([label for _, label in listed], np.int64)
        np.save(folder / f"{split}_labels.npy", labels)
        arrays += [images, labels]
    image_files.refuse(broken, sum(len(listed) for listed in files.values()), _CURE)
    info = _info(entry, files, names, fingerprint(Arrays(*arrays, names)))
    (folder / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def _decode(path: Path, side: int) -> np.ndarray | str:
    """An image (3, side, side) uint8, or one phrase that says what is wrong with the file."""
    try:
        pixels = np.asarray(image_files.read_rgb(path))
    except Exception as error:  # Pillow's decoders raise many kinds
        return image_files.undecodable(error)
    if pixels.shape != (side, side, 3):
        return f"is {pixels.shape[1]} x {pixels.shape[0]}, not {side} x {side}"
    return pixels.transpose(2, 0, 1)


def _split_folder(folder: Path, names: tuple[str, ...]) -> Path:
    there = [folder / name for name in names if (folder / name).is_dir()]
    if not there:
        raise UsageError(
            f"there is no {' or '.join(str(folder / name) for name in names)}; give the folder that holds "
            "train/<class>/ and test/<class>/ (or val/<class>/)."
        )
    if len(there) > 1:
        raise UsageError(f"{folder} has both test and val; rename the one that is not the official test split.")
    return there[0]


def _image_files(split: Path, names: list[str]) -> list[tuple[Path, int]]:
    """The images of the class folders with labels, sorted by class, then file name. UsageError as `image_names`."""
    listed = []
    for label, name in enumerate(names):
        try:
            listed += [(split / name / file, label) for file in image_names(split / name)]
        except UsageError as error:
            raise UsageError(
                f"{error}; every class needs images in train and in test, and holds nothing else."
            ) from None
    return listed
