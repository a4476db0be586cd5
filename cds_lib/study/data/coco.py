"""COCO 2017 for detection: the published layout, read into one record per image. Imports no torch.

folder/train2017/*.jpg, folder/val2017/*.jpg, folder/annotations/instances_{train,val}2017.json
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import broken_images
from cds_lib.study.data.images import PUT_BACK, leads_out, refuse
from cds_lib.study.data.registry import entry, single_writer
from cds_lib.study.files import read_json, write_json

OVERHANG = 1.0  # pixels; published boxes exceed their images by fractions of a pixel and are kept as they are
_CURE = "get COCO's annotations again"


class CocoImage(NamedTuple):
    """One image with its objects.

    file: its path, or the pixels (3, H, W) uint8 of a stand-in image. boxes (N, 4) float32: corners x1, y1, x2, y2 in
    pixels. labels (N,) int64, from 1. area (N,) float32: of the object, in square pixels. crowd (N,) bool: a group of
    objects, which is not trained on.
    """

    image_id: int
    file: Path | np.ndarray
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


class DetectionData(NamedTuple):
    """Training images, each with an object that is no crowd, and all evaluation images. `names[k]` is the category of
    label k + 1. For `provenance` see `DataSet.provenance`; its sha256 covers ids, sizes and objects."""

    train: tuple[CocoImage, ...]
    val: tuple[CocoImage, ...]
    names: tuple[str, ...]
    provenance: dict[str, Any]


def load(data_root: Path) -> DetectionData:
    """Load the real set from its official folder in `data_root`, else from the folder that was imported.

    UsageError if it is not there (the message says what to run), images are missing or annotations cannot be read.
    """
    known = entry("coco")
    if known.is_official(data_root):
        return read(data_root / known.folder)
    record = known.imported(data_root) / "info.json"
    if not record.exists():
        raise UsageError(known.missing(data_root))
    try:
        folder = Path(read_json(record)["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{record} cannot be read ({error}); delete it and import again.") from error
    return read(folder, "imported")


def read(folder: Path, kind: str = "official") -> DetectionData:
    """Read the set, or a subset, from a folder of the published layout; its provenance is `kind`. Raises as `load`."""
    (train, names), (val, names_in_val) = (_images(folder, split) for split in ("train", "val"))
    if names != names_in_val:
        raise UsageError(f"{folder}: train and val do not name the same categories; {_CURE}.")
    missing = [str(image.file.relative_to(folder)) for image in (*train, *val) if not image.file.is_file()]
    refuse(missing, len(train) + len(val), f"are missing in {folder}", PUT_BACK)
    return described(train, val, names, kind)


def import_coco(folder: Path, root: Path) -> dict[str, Any]:
    """Check a folder of the published layout, its images included; record it in `root` and return its info.json."""
    data = read(folder, "imported")
    refuse(faults(data), len(data.train) + len(data.val), "cannot be used", "repair them, then import again")
    info = {"folder": str(folder.absolute()), "class_names": list(data.names), **data.provenance}
    with single_writer(root, "coco"):
        write_json(entry("coco").imported(root) / "info.json", info)
    return info


def faults(data: DetectionData) -> list[str]:
    """Decode the images that runs use; return path and fault of each that is broken or has not its annotated size."""
    images = (*data.train, *data.val)
    return broken_images([image.file for image in images], [(image.width, image.height) for image in images])


def _images(folder: Path, split: str) -> tuple[tuple[CocoImage, ...], tuple[str, ...]]:
    """Read all images of "train" or "val" and the category names, both in the order of their ids."""
    file = folder / "annotations" / f"instances_{split}2017.json"
    last: object = "the whole"  # what is being checked, for the error message
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=_without_outline)
        categories, images = _by_id(content["categories"]), _by_id(content["images"])
        label = {number: k for k, number in enumerate(categories, 1)}
        names = tuple(str(category["name"]) for category in categories.values())
        objects: dict[int, list[tuple]] = {}
        for number, last in images.items():
            objects[number] = []
            if not all(type(last[side]) is int and 0 < last[side] < 1 << 16 for side in ("width", "height")):
                raise ValueError("it has no width or no height")
            if leads_out(last["file_name"]):
                raise ValueError("it is outside its image folder")
        for last in content["annotations"]:
            width, height = (images[last["image_id"]][side] + OVERHANG for side in ("width", "height"))
            x, y, across, down = last["bbox"]
            area, crowd = last.get("area", across * down), last.get("iscrowd") or 0
            if not (-OVERHANG <= x <= x + across <= width and -OVERHANG <= y <= y + down <= height):
                raise ValueError("its box is not inside its image")
            if not 0 <= area <= (width + OVERHANG) * (height + OVERHANG) or crowd not in (0, 1):
                raise ValueError("its area does not fit its image, or iscrowd is not 0 or 1")
            objects[last["image_id"]].append((x, y, x + across, y + down, area, crowd, label[last["category_id"]]))
        found = tuple(_image(one, folder / f"{split}2017", objects[number]) for number, one in images.items())
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{file} is malformed ({error!r} in {last!r:.200}); {_CURE}.") from error
    if not any((~image.crowd).any() for image in found):
        raise UsageError(f"{file} has no object that is not a crowd; {_CURE}.")
    return found, names


def _image(one: dict, folder: Path, objects: list[tuple]) -> CocoImage:
    """Build the record of an image from its objects (x1, y1, x2, y2, area, crowd, label). Drop boxes of no area, which
    COCO has, and of nearly none, which may lose their width to rounding when they are mirrored and scaled."""
    columns = np.array(objects, float).reshape(-1, 7)
    boxes = columns[:, :4].astype(np.float32)
    resolved = 4 * np.finfo(np.float32).eps * max(one["width"], one["height"])
    kept = (boxes[:, 2:] - boxes[:, :2] > resolved).all(1)
    area, crowd, labels = (columns[kept, k].astype(kind) for k, kind in ((4, np.float32), (5, bool), (6, np.int64)))
    path = folder / one["file_name"]
    return CocoImage(one["id"], path, one["height"], one["width"], boxes[kept], labels, area, crowd)


def _without_outline(one: dict) -> dict:
    """Drop the outline of an object: outlines are most of the file, and boxes do not need them."""
    one.pop("segmentation", None)
    return one


def _by_id(rows: list[dict]) -> dict[int, dict]:
    """Index images or categories by id, in the order of ids; ValueError if an id is not an integer or occurs twice."""
    found = {one["id"]: one for one in rows}
    if not all(type(number) is int for number in found) or len(found) < len(rows):
        raise ValueError("its ids are not distinct integers")
    return dict(sorted(found.items()))


def described(
    train: Sequence[CocoImage], val: Sequence[CocoImage], names: Sequence[str], kind: str, *how: str
) -> DetectionData:
    """Return these images with their provenance."""
    digest = hashlib.sha256()  # of every image's id and size and every object's box, label, area and crowd flag
    for image in (*train, *val):
        digest.update(f"{image.image_id} {image.height} {image.width}\n".encode())
        for array in (image.boxes, image.labels, image.area, image.crowd):
            digest.update(np.ascontiguousarray(array).data)
    provenance = entry("coco").provenance(kind, (len(names), len(train), len(val)), digest.hexdigest(), *how)
    trained = tuple(image for image in train if (~image.crowd).any())
    return DetectionData(trained, tuple(val), tuple(names), provenance)
