"""COCO 2017 for detection: the published layout, read into one record per image. Imports no torch.

folder/train2017/*.jpg, folder/val2017/*.jpg, folder/annotations/instances_{train,val}2017.json
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import decoded
from cds_lib.study.data.listing import PUT_BACK, leads_out, refuse
from cds_lib.study.data.registry import entry, single_writer
from cds_lib.study.files import read_json, write_json

OVERHANG = 1.0  # pixels: published boxes stick out of their images by fractions of one, and are taken as they are
_CURE = "get COCO's annotations again"


@dataclass(frozen=True)
class CocoImage:
    """One image with its objects.

    path: the file; pixels: (3, H, W) uint8 of a stand-in image, which has no file. boxes (N, 4) float32, corners
    x1, y1, x2, y2 in pixels; labels (N,) int64 from 1; area (N,) float32, of the object, in square pixels; crowd (N,)
    bool: a group of objects, which is not trained on.
    """

    image_id: int
    path: Path | None
    pixels: np.ndarray | None
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class DetectionData:
    """Images to train on (with at least one object that is no crowd) and all images to evaluate on; `names[k]` is the
    category of label k + 1. `provenance` as in `sets.ArrayData`, its sha256 of ids, sizes and objects."""

    train: tuple[CocoImage, ...]
    val: tuple[CocoImage, ...]
    names: tuple[str, ...]
    provenance: dict


def load(data_root: Path) -> DetectionData:
    """The real set: its official folder in `data_root`, else the folder that was imported.

    Raises UsageError: not there (says what to run), images missing, annotations that cannot be read.
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
    """The set, or a subset, in a folder of the published layout; `kind` as in `sets.ArrayData`. Raises as `load`."""
    (train, names), (val, names_in_val) = (_images(folder, split) for split in ("train", "val"))
    if names != names_in_val:
        raise UsageError(f"{folder}: train and val do not name the same categories; {_CURE}.")
    missing = [str(image.path.relative_to(folder)) for image in (*train, *val) if not image.path.is_file()]
    refuse(missing, len(train) + len(val), f"are missing in {folder}", PUT_BACK)
    return described(train, val, names, kind)


def import_coco(folder: Path, root: Path) -> dict:
    """Check a folder of the published layout, decode every image, and record it in `root`; returns its info.json."""
    data = read(folder, "imported")
    refuse(broken_images(data), len(data.train) + len(data.val), "cannot be used", "repair them, then import again")
    info = {"folder": str(folder.absolute()), "class_names": list(data.names), **data.provenance}
    with single_writer(root, "coco"):
        write_json(entry("coco").imported(root) / "info.json", info)
    return info


def broken_images(data: DetectionData) -> list[str]:
    """Decode every image: path and fault of each that cannot be decoded or has another size than in its annotations."""
    images = (*data.train, *data.val)
    found = zip(images, decoded([image.path for image in images], lambda image: image.size), strict=True)
    faults = ((one, size if isinstance(size, str) else misfit(size, (one.width, one.height))) for one, size in found)
    return [f"{image.path}: {fault}" for image, fault in faults if fault]


def misfit(size: tuple[int, int], annotated: tuple[int, int]) -> str:
    """Both sizes (width, height) in words where an image has another than in its annotations, else ""."""
    there, stated = ("{} x {}".format(*both) for both in (size, annotated))
    return "" if there == stated else f"is {there}, its annotations are for {stated}"


def _images(folder: Path, split: str) -> tuple[tuple[CocoImage, ...], tuple[str, ...]]:
    """All images of "train" or "val" and the names of the categories, each in the order of their ids.

    Boxes without area, of which COCO has some, are left out."""
    file = folder / "annotations" / f"instances_{split}2017.json"
    last: object = "the whole"  # what is being checked, for the error message
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=_without_outline)
        categories = _by_id(content["categories"])
        names = tuple(str(category["name"]) for category in categories.values())
        label = {number: k for k, number in enumerate(categories, 1)}
        images = _by_id(content["images"])
        for last in images.values():
            for side in (last["width"], last["height"]):
                if type(side) is not int or not 0 < side < 1 << 16:
                    raise ValueError(f"{side!r} is no height or width")
            if leads_out(last["file_name"]):
                raise ValueError("it is outside of the folder of its images")
        rows: dict[int, list[int]] = {number: [] for number in images}
        table = []
        for row, last in enumerate(content["annotations"]):
            rows[last["image_id"]].append(row)
            image, (x, y, across, down) = images[last["image_id"]], last["bbox"]
            area, crowd = last.get("area", across * down), last.get("iscrowd") or 0
            box = (x, y, x + across, y + down)
            table.append((*box, area, crowd, label[last["category_id"]], image["width"], image["height"]))
        corners, area, crowd, labels, size = np.split(np.array(table, float).reshape(-1, 9), [4, 5, 6, 7], axis=1)
        start, end = corners[:, :2], corners[:, 2:]
        for wrong, good in {
            "its box is not inside of its image": (start >= -OVERHANG) & (start <= end) & (end <= size + OVERHANG),
            "its area is not one in its image": (area >= 0) & (area <= (size + 2 * OVERHANG).prod(1, keepdims=True)),
            "iscrowd is not 0 or 1": (crowd == 0) | (crowd == 1),
        }.items():
            if not good.all():
                last = content["annotations"][good.all(1).argmin()]
                raise ValueError(wrong)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{file} is malformed ({error!r} in {last!r:.200}); {_CURE}.") from error
    boxes, labels = corners.astype(np.float32), labels[:, 0].astype(np.int64)
    area, crowd = area[:, 0].astype(np.float32), crowd[:, 0].astype(bool)
    # Narrower boxes may lose their width to rounding when they are mirrored and scaled.
    resolved = 4 * np.finfo(np.float32).eps * size.max(1, keepdims=True)
    kept = (boxes[:, 2:] - boxes[:, :2] > resolved).all(1)
    found = []
    for number, image in images.items():
        chosen = [row for row in rows[number] if kept[row]]
        path, sides = folder / f"{split}2017" / image["file_name"], (image["height"], image["width"])
        objects = boxes[chosen], labels[chosen], area[chosen], crowd[chosen]
        found.append(CocoImage(number, path, None, *sides, *objects))
    if not any((~image.crowd).any() for image in found):
        raise UsageError(f"{file} has no object that is no crowd; {_CURE}.")
    return tuple(found), names


def _without_outline(one: dict) -> dict:
    """Drop the outline of an object: outlines are most of the file, and boxes do not need them."""
    one.pop("segmentation", None)
    return one


def _by_id(rows: list[dict]) -> dict[int, dict]:
    """The images or categories in the order of their ids; ValueError if an id is no integer, or there twice."""
    found = {one["id"]: one for one in rows}
    if not all(type(number) is int for number in found) or len(found) < len(rows):
        raise ValueError("its ids are not different whole numbers")
    return dict(sorted(found.items()))


def described(
    train: tuple[CocoImage, ...], val: tuple[CocoImage, ...], names: tuple[str, ...], kind: str, note: str = ""
) -> DetectionData:
    """These images with their provenance; note: in place of the sentence on how complete they are."""
    digest = hashlib.sha256()  # of every image's id and size and every object's box, label, area and crowd flag
    for image in (*train, *val):
        digest.update(f"{image.image_id} {image.height} {image.width}\n".encode())
        for array in (image.boxes, image.labels, image.area, image.crowd):
            digest.update(np.ascontiguousarray(array).data)
    known = entry("coco")
    complete = (len(train), len(val)) == (known.train, known.test)
    images = f"{len(train)} of {known.train} training, {len(val)} of {known.test} validation images"
    extent = "complete" if complete else f"a subset ({images})"
    provenance = {
        "kind": kind,
        "complete": complete,
        "verified": False,
        "train": len(train),
        "test": len(val),
        "sha256": digest.hexdigest(),
        "note": note or f"COCO's layout, {extent}, no published checksum to compare with",
    }
    trained = tuple(image for image in train if (~image.crowd).any())
    return DetectionData(trained, val, names, provenance)
