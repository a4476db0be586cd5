"""Import images held as train/<class>/... and test|val/<class>/...

Images of one small size (CIFAR) are decoded once and kept as arrays. Larger images stay where they are, and only a
listing is kept. COCO is imported in its published layout.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import coco, image_files
from cds_lib.study.data.images import Images, class_folders, listed, refuse
from cds_lib.study.data.registry import DataSet, single_writer
from cds_lib.study.files import new_folder, write_json


def import_folder(entry: DataSet, folder: Path, root: Path) -> dict[str, Any]:
    """Decode an image folder and store it, or its listing, under `root/imported/<name>/`; return its info.json.

    Classes are the folder names in alphabetical order (the official label order of CIFAR). A subset of classes or
    images is allowed and recorded as such. Raises UsageError: missing or differing class folders, more classes or
    images than the set has, an image that cannot be decoded or has another size than the set's (if there is one), an
    earlier import, another writer.
    """
    if entry.layout == "coco":
        return coco.import_coco(folder, root)
    try:
        files = class_folders(folder.absolute(), "test", "val")
        if files.counts[0] < 2 or any(here > most for here, most in zip(files.counts, entry.counts, strict=True)):
            raise UsageError(
                "{} holds {} classes, {} training and {} test images, but {} has {}, {} and {}".format(
                    folder, *files.counts, entry.title, *entry.counts
                )
            )
    except UsageError as error:
        raise UsageError(
            f"{error}; give the folder that holds train/<class>/ and test/<class>/ (or val/<class>/), with images of "
            "every class in both and nothing else."
        ) from None
    target = entry.imported(root)
    with single_writer(root, entry.name):
        if target.exists():
            raise UsageError(f"{entry.name} was imported before; delete {target} to import it again.")
        with new_folder(target) as building:
            sha256 = _keep(files, building, entry.image_size)
            info = {"folder": str(files.folder), "class_names": list(files.class_names)}
            info |= entry.provenance("imported", files.counts, sha256)
            write_json(building / "info.json", info)
    return info


def _keep(files: Images, folder: Path, side: int | None) -> str:
    """Decode every image, to store arrays in `folder` or to check it and store the listing; return the fingerprint."""
    cure = "repair or remove them, then import again"
    if side is None:
        paths = [*files.train_images, *files.test_images]
        refuse(image_files.broken_images(paths), len(paths), "cannot be used", cure)
        (folder / "listing.json").write_text(json.dumps(files.listing()))
        return files.fingerprint()
    splits = {"train_images": files.train_images, "test_images": files.test_images}
    image_files.decode_into(folder, splits, side, np.asarray, cure, (side, side))
    np.save(folder / "train_labels.npy", files.train_labels)
    np.save(folder / "test_labels.npy", files.test_labels)
    return _arrays(folder, files.class_names).fingerprint()


def _arrays(folder: Path, class_names: Sequence[str]) -> Images:
    return Images(*(np.load(folder / f"{name}.npy") for name in Images._fields[:4]), tuple(class_names))


def read_imported(entry: DataSet, root: Path) -> tuple[Images, dict[str, Any]]:
    """Return the imported arrays or listing, and the info.json. Raises UsageError if a file is missing or broken.

    The caller compares the fingerprint with info["sha256"].
    """
    folder = entry.imported(root)
    try:
        info = json.loads((folder / "info.json").read_text())
        if entry.image_size:
            return _arrays(folder, info["class_names"]), info
        listing = json.loads((folder / "listing.json").read_text())
        return listed(Path(info["folder"]), listing["train"], listing["test"], info["class_names"]), info
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise UsageError(
            f"what was imported to {folder} is broken ({error}); delete that folder and import again."
        ) from error
