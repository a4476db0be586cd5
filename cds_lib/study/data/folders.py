"""Import images held as train/<class>/... and test|val/<class>/...

Images of one small size (CIFAR) are decoded once and kept as arrays. Larger ones stay where they are: a listing of them
is kept.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import image_files
from cds_lib.study.data.listing import Arrays, Listing, class_folders, refuse
from cds_lib.study.data.registry import DataSet, single_writer
from cds_lib.study.files import new_folder, write_json

ARRAYS = Arrays._fields[:4]  # one .npy file each; the class names are in info.json
_CURE = "repair or remove them, then import again"


def import_folder(entry: DataSet, folder: Path, root: Path) -> dict:
    """Decode an image folder and store it, or its listing, under `root/imported/<name>/`; returns its info.json.

    Classes are the folder names in alphabetical order (the official label order of CIFAR). A subset of classes or
    images is allowed and recorded as such. Raises UsageError: missing or differing class folders, more classes or
    images than the set has, any image that cannot be decoded or has another size than the set's (if all have one),
    imported before, another writer.
    """
    try:
        listing = class_folders(folder.absolute(), _part(folder, "train"), _part(folder, "test", "val"))
    except UsageError as error:
        raise UsageError(
            f"{error}; give the folder that holds train/<class>/ and test/<class>/ (or val/<class>/), with images of "
            "every class in both and nothing else."
        ) from None
    counts, official = (len(listing.train), len(listing.test)), (entry.train, entry.test)
    if not 1 < len(listing.class_names) <= entry.classes or counts[0] > official[0] or counts[1] > official[1]:
        raise UsageError(
            f"{folder} holds {len(listing.class_names)} classes, {counts[0]} training and {counts[1]} test images, but "
            f"{entry.title} has {entry.classes}, {official[0]} and {official[1]}; give the folder that holds "
            "train/<class>/ and test/<class>/ of this set."
        )
    target = entry.imported(root)
    with single_writer(root, entry.name):
        if target.exists():
            raise UsageError(f"{entry.name} was imported before; delete {target} to import it again.")
        with new_folder(target) as building:
            side = entry.image_size
            kept = _keep_arrays(listing, building, side) if side else _keep_listing(listing, building)
            info = {
                "name": entry.name,
                "train": counts[0],
                "test": counts[1],
                "complete": (len(listing.class_names), counts) == (entry.classes, official),
                **kept,
                "class_names": list(listing.class_names),
            }
            write_json(building / "info.json", info)
    return info


def read_imported(entry: DataSet, root: Path) -> tuple[Arrays | Listing, dict]:
    """The imported arrays or listing, and the info.json. Raises UsageError if a file is missing or broken.

    The caller compares the fingerprint with info["sha256"].
    """
    folder = entry.imported(root)
    try:
        info = json.loads((folder / "info.json").read_text())
        names = tuple(info["class_names"])
        if entry.image_size is None:
            listed = json.loads((folder / "listing.json").read_text())
            splits = (tuple((str(name), int(label)) for name, label in listed[part]) for part in ("train", "test"))
            return Listing(Path(info["folder"]), *splits, names), info
        arrays = Arrays(*(np.load(folder / f"{name}.npy") for name in ARRAYS), names)
        for part, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:4])):
            shapes = (images.shape, images.dtype, labels.shape, labels.dtype)
            if shapes != ((info[part], 3, entry.image_size, entry.image_size), np.uint8, (info[part],), np.int64):
                raise ValueError(f"{part} arrays of another shape or type")
        return arrays, info
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise UsageError(
            f"what was imported to {folder} is broken ({error}); delete that folder and import again."
        ) from error


def _keep_listing(listing: Listing, folder: Path) -> dict:
    """Decode every image to check it, and write the listing; returns entries of info.json."""
    paths = [listing.folder / name for name, _ in listing.train + listing.test]
    refuse(image_files.broken_images(paths), len(paths), "cannot be used", _CURE)
    (folder / "listing.json").write_text(json.dumps({"train": listing.train, "test": listing.test}))
    return {"sha256": listing.fingerprint(), "folder": str(listing.folder)}


def _keep_arrays(listing: Listing, folder: Path, side: int) -> dict:
    """Decode every image into an array; returns entries of info.json."""
    held = listing.arrays()

    def use(image: Image.Image) -> np.ndarray | str:
        fits = image.size == (side, side)
        return np.asarray(image) if fits else f"is {image.width} x {image.height}, not {side} x {side}"

    paths = {"train_images": held.train_images, "test_images": held.test_images}
    image_files.decode_into(folder, paths, side, use, _CURE)
    for name, labels in (("train_labels", held.train_labels), ("test_labels", held.test_labels)):
        np.save(folder / f"{name}.npy", labels)
    arrays = Arrays(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS), held.class_names)
    return {"sha256": arrays.fingerprint()}


def _part(folder: Path, *names: str) -> str:
    """The one of these folders that exists; UsageError, without a full stop, if none or several do."""
    there = [name for name in names if (folder / name).is_dir()]
    if len(there) > 1:
        raise UsageError(f"{folder} has both test and val, and one of them is not the official test split")
    if not there:
        raise UsageError(f"there is no {' or '.join(str(folder / name) for name in names)}")
    return there[0]
