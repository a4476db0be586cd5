"""Import images held as train/<class>/... and test|val/<class>/...

Images of one small size (CIFAR) are decoded once and kept as arrays. Of larger ones a listing is kept: they stay where
they are, and are read from there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import image_files
from cds_lib.study.data.arrays import Arrays, fingerprint
from cds_lib.study.data.image_files import Listing, hidden, image_names, some
from cds_lib.study.data.registry import DataSet
from cds_lib.study.data.writing import new_folder, single_writer

ARRAYS = Arrays._fields[:4]  # one .npy file each; the class names are in info.json
_BROKEN = (UsageError, OSError, ValueError, KeyError, TypeError, EOFError, RecursionError)
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
    parts = {"train": _split_folder(folder, "train"), "test": _split_folder(folder, "test", "val")}
    names, others = (
        sorted(d.name for d in path.iterdir() if d.is_dir() and not hidden(d.name)) for path in parts.values()
    )
    if differing := sorted(set(names) ^ set(others)):
        raise UsageError(
            f"{folder}: training and test classes differ ({some(differing)}); both need the same class folders."
        )
    if not 1 < len(names) <= entry.classes:
        raise UsageError(
            f"{folder}/train has {len(names)} class folders, but {entry.title} has {entry.classes} classes; "
            "give the folder that holds train/<class>/ and test/<class>/."
        )
    above = folder.absolute()
    listing = Listing(above, *(_listed(above, path.name, names) for path in parts.values()), tuple(names))
    counts = {"train": len(listing.train), "test": len(listing.test)}
    official = {"train": entry.train, "test": entry.test}
    for part, count in counts.items():
        if count > official[part]:
            raise UsageError(f"{parts[part]} holds {count} files, more than the {official[part]} of {entry.title}.")
    target = imported_folder(entry, root)
    with single_writer(root, entry.name):
        if target.exists():
            raise UsageError(f"{entry.name} was imported before; delete {target} to import it again.")
        with new_folder(target, root) as building:
            info = {
                "name": entry.name,
                **counts,
                "complete": (len(names), counts) == (entry.classes, official),
                **(_keep_listing(listing, building) if entry.image_size is None else _keep(entry, listing, building)),
                "class_names": names,
            }
            (building / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def read_imported(entry: DataSet, root: Path) -> tuple[Arrays, dict]:
    """The imported arrays and their info.json. Raises UsageError if a file is missing, broken or of another shape.

    The caller compares `fingerprint` of the arrays with info["sha256"].
    """
    folder, side = imported_folder(entry, root), entry.image_size
    try:
        info = json.loads((folder / "info.json").read_text())
        arrays = Arrays(*(np.load(folder / f"{name}.npy") for name in ARRAYS), tuple(info["class_names"]))
        for part, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:4])):
            if images.shape != (info[part], 3, side, side) or labels.shape != (info[part],):
                raise ValueError(f"{part} arrays of shape {images.shape} and {labels.shape}")
            if images.dtype != np.uint8 or labels.dtype != np.int64:
                raise ValueError(f"{part} arrays of type {images.dtype} and {labels.dtype}")
    except _BROKEN as error:
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
    except _BROKEN as error:
        raise UsageError(
            f"the imported listing in {folder} is broken ({error}); delete that folder and import again."
        ) from error
    return listing, info


def _keep_listing(listing: Listing, folder: Path) -> dict:
    """Decode every image to check it, and keep the listing; what info.json says of it."""
    paths = listing.paths("train") + listing.paths("test")
    image_files.refuse(image_files.broken_images(paths), len(paths), _CURE)
    (folder / "listing.json").write_text(json.dumps({"train": listing.train, "test": listing.test}))
    return {"sha256": image_files.fingerprint(listing), "folder": str(listing.folder)}


def _keep(entry: DataSet, listing: Listing, folder: Path) -> dict:
    """Decode every image into an array; what info.json says of them."""
    side = entry.image_size

    def use(image: Image.Image) -> np.ndarray | str:
        fits = image.size == (side, side)
        return np.asarray(image) if fits else f"is {image.width} x {image.height}, not {side} x {side}"

    broken, arrays = [], []
    for split in ("train", "test"):
        images, wrong = image_files.decode_into(folder / f"{split}_images.npy", listing.paths(split), side, use)
        broken += wrong
        arrays += [images, listing.labels(split)]
        np.save(folder / f"{split}_labels.npy", arrays[-1])
    image_files.refuse(broken, len(listing.train) + len(listing.test), _CURE)
    return {"sha256": fingerprint(Arrays(*arrays, listing.class_names))}


def _split_folder(folder: Path, *names: str) -> Path:
    there = [folder / name for name in names if (folder / name).is_dir()]
    if not there:
        raise UsageError(
            f"there is no {' or '.join(str(folder / name) for name in names)}; give the folder that holds "
            "train/<class>/ and test/<class>/ (or val/<class>/)."
        )
    if len(there) > 1:
        raise UsageError(f"{folder} has both test and val; rename the one that is not the official test split.")
    return there[0]


def _listed(folder: Path, part: str, names: list[str]) -> tuple[tuple[str, int], ...]:
    """The images of the class folders with labels, sorted by class, then file name. UsageError as `image_names`."""
    try:
        listed = [(name, label, image_names(folder / part / name)) for label, name in enumerate(names)]
    except UsageError as error:
        raise UsageError(f"{error}; every class needs images in train and in test, and holds nothing else.") from None
    return tuple((f"{part}/{name}/{file}", label) for name, label, files in listed for file in files)
