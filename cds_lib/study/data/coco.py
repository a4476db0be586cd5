"""COCO 2017 for detection: read from the published layout, without torch, into one record an image.

folder/train2017/*.jpg, folder/val2017/*.jpg, folder/annotations/instances_{train,val}2017.json
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import coco_standin
from cds_lib.study.data.image_files import decoded, refuse, some
from cds_lib.study.data.registry import entry
from cds_lib.study.data.writing import single_writer
from cds_lib.study.files import write_json

OVERHANG = 1.0  # pixels: published boxes stick out of their images by fractions of one, and are taken as they are
_CURE = "get COCO's annotations again"


@dataclass(frozen=True)
class CocoImage:
    """One image with its objects.

    path: the file; pixels: (3, H, W) uint8 where the image is made and there is no file. boxes (N, 4) float32, corners
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
    category of label k + 1. `provenance` as in `sets.ArrayData`, its sha256 of what is fed to `_describe`."""

    train: tuple[CocoImage, ...]
    val: tuple[CocoImage, ...]
    names: tuple[str, ...]
    provenance: dict


def load(data_root: Path, source: str) -> DetectionData:
    """The stand-in, or the real set: its official folder in `data_root`, else the folder that was imported.

    Raises UsageError: not there (says what to run), images missing, annotations that cannot be read.
    """
    if source == "standin":
        made = coco_standin.make()
        train, val = (_images(content, Path("stand-in"), None, pixels) for content, pixels in made)
        note = "stand-in images made from scikit-learn's digits and photographs: AP on them means nothing"
        return _data(train, val, _names(made[0][0]), "standin", note)
    known, root = entry("coco"), Path(data_root)
    if known.is_official(root):
        return read(root / known.folder)
    record = root / "imported" / "coco" / "info.json"
    if record.exists():
        try:
            folder = Path(json.loads(record.read_bytes())["folder"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{record} cannot be read ({error}); delete it and import again.") from error
        return read(folder, "imported")
    raise UsageError(
        f"{known.title} is not in {root}; run `python -m cds_lib data fetch coco --data-root {root}`, or, if you hold "
        "it (train2017/, val2017/, annotations/), "
        f"`python -m cds_lib data import coco --folder FOLDER --data-root {root}`."
    )


def read(folder: Path, kind: str = "official") -> DetectionData:
    """The set, or a subset, in a folder of the published layout; `kind` as in `sets.ArrayData`. Raises as `load`."""
    read_parts, all_names = [], []
    for split in ("train", "val"):
        file = folder / "annotations" / f"instances_{split}2017.json"
        content = _json(file)
        read_parts.append(_images(content, file, folder / f"{split}2017", {}))
        all_names.append(_names(content))
        if not any((~image.crowd).any() for image in read_parts[-1]):
            raise UsageError(f"{file} has no object that is no crowd; {_CURE}.")
    if all_names[0] != all_names[1]:
        raise UsageError(f"{folder}: train and val do not name the same categories; {_CURE}.")
    train, val = read_parts
    if missing := [str(image.path) for image in (*train, *val) if not image.path.is_file()]:
        raise UsageError(
            f"{len(missing)} of {len(train) + len(val)} images are missing ({some(missing)}); put them back, or fetch "
            "or import the set again."
        )
    return _data(train, val, all_names[0], kind)


def import_coco(folder: Path, root: Path) -> dict:
    """Check a folder of the published layout, decode every image, and remember it in `root`; returns its info.json."""
    data = read(folder, "imported")
    refuse(broken_images(data), len(data.train) + len(data.val), "repair them, then import again")
    info = {"folder": str(folder.absolute()), "class_names": list(data.names), **data.provenance}
    with single_writer(root, "coco"):
        write_json(root / "imported" / "coco" / "info.json", info)
    return info


def broken_images(data: DetectionData) -> list[str]:
    """Decode every image; for each that cannot be, or that its annotations do not fit, its path and what is wrong."""
    images = (*data.train, *data.val)
    found = zip(images, decoded([image.path for image in images], lambda image: image.size), strict=True)
    faults = ((one, size if isinstance(size, str) else misfit(size, (one.width, one.height))) for one, size in found)
    return [f"{image.path}: {fault}" for image, fault in faults if fault]


def misfit(size: tuple[int, int], annotated: tuple[int, int]) -> str:
    """What is wrong with an image of this width and height, whose annotations are for another; "" if they fit."""
    there, stated = ("{} x {}".format(*both) for both in (size, annotated))
    return "" if there == stated else f"is {there}, its annotations are for {stated}"


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=_without_outline)
        return {key: content[key] for key in ("images", "annotations", "categories")}
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error!r}); {_CURE}.") from error


def _without_outline(one: dict) -> dict:
    """Most of the file, and nothing that boxes need."""
    one.pop("segmentation", None)
    return one


def _names(content: dict) -> tuple[str, ...]:
    return tuple(str(one["name"]) for one in sorted(content["categories"], key=lambda one: one["id"]))


def _images(content: dict, source: Path, folder: Path | None, pixels: dict[int, np.ndarray]) -> tuple[CocoImage, ...]:
    """All images of the file `source`, in the order of their ids; boxes without area, which are published
    as well, are left out."""
    last: object = "the whole"  # what was looked at when it went wrong
    try:
        label = {number: k for k, number in enumerate(sorted(_ids(content["categories"])), 1)}
        images = dict(sorted(zip(_ids(content["images"]), content["images"], strict=True)))
        objects: dict[int, list[tuple]] = {number: [] for number in images}
        _names(content)
        for last in content["annotations"]:
            image = images[last["image_id"]]
            found = _object(last, _side(image["width"]), _side(image["height"]))
            objects[last["image_id"]].append((*found, label[last["category_id"]]))
        found = []
        for number, last in images.items():
            width, height = _side(last["width"]), _side(last["height"])
            boxes, areas, crowds, labels = zip(*objects[number], strict=True) if objects[number] else ((),) * 4
            boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
            # What single precision still tells apart after a box was mirrored and scaled to any size.
            resolved = 4 * np.finfo(np.float32).eps * max(width, height)
            kept = (boxes[:, 2:] - boxes[:, :2] > resolved).all(1)
            found.append(
                CocoImage(
                    image_id=number,
                    path=folder and folder / _inside(last["file_name"]),
                    pixels=pixels.get(number),
                    height=height,
                    width=width,
                    boxes=boxes[kept],
                    labels=np.array(labels, dtype=np.int64)[kept],
                    area=np.array(areas, dtype=np.float32)[kept],
                    crowd=np.array(crowds, dtype=bool)[kept],
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{source} is malformed ({error!r} in {last!r:.200}); {_CURE}.") from error
    return tuple(found)


def _object(one: dict, width: int, height: int) -> tuple[tuple[float, ...], float, bool]:
    """Corners x1, y1, x2, y2 in pixels, area and crowd flag of an annotation in an image of this size.

    The area is of the object, in square pixels; where it is not stated, that of its box."""
    x, y, across, down = (_number(value) for value in one["bbox"])
    if across < 0 or down < 0:
        raise ValueError(f"its box is {across} x {down}")
    if min(x, y) < -OVERHANG or x + across > width + OVERHANG or y + down > height + OVERHANG:
        raise ValueError(f"its box is not inside of its image, {width} x {height}")
    area = _number(one.get("area", across * down))
    if not 0 <= area <= (width + 2 * OVERHANG) * (height + 2 * OVERHANG):
        raise ValueError(f"its area is {area} square pixels of an image of {width} x {height}")
    if one.get("iscrowd") not in (None, 0, 1):
        raise ValueError(f"iscrowd is {one['iscrowd']!r}, not 0 or 1")
    return (x, y, x + across, y + down), area, bool(one.get("iscrowd"))


def _ids(rows: list[dict]) -> list[int]:
    """The ids of the images or categories; ValueError if one is no whole number, or there twice."""
    found = [one["id"] for one in rows]
    if not all(type(number) is int for number in found) or len(set(found)) < len(found):
        raise ValueError("its ids are not different whole numbers")
    return found


def _number(value: object) -> float:
    """A coordinate or an area, in pixels; ValueError if it cannot be one."""
    if isinstance(value, bool | str) or not abs(value) < 1e9:
        raise ValueError(f"{value!r} is no coordinate")
    return float(value)


def _side(value: object) -> int:
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError(f"{value!r} is no height or width")
    return value


def _inside(name: object) -> str:
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} is outside of the folder of its images")
    return str(path)


def _data(
    train: tuple[CocoImage, ...], val: tuple[CocoImage, ...], names: tuple[str, ...], kind: str, note: str = ""
) -> DetectionData:
    known = entry("coco")
    complete = (len(train), len(val)) == (known.train, known.test) and kind != "standin"
    extent = (
        "complete"
        if complete
        else f"a subset ({len(train)} of {known.train} training, {len(val)} of {known.test} validation images)"
    )
    provenance = {
        "kind": kind,
        "complete": complete,
        "verified": False,
        "train": len(train),
        "test": len(val),
        "sha256": _describe(train, val),
        "note": note or f"COCO's layout, {extent}, no published checksum to compare with",
    }
    trained = tuple(image for image in train if (~image.crowd).any())
    return DetectionData(trained, val, names, provenance)


def _describe(*splits: tuple[CocoImage, ...]) -> str:
    """sha256 (hex) of every image's id and size and every object's box, label, area and crowd flag."""
    digest = hashlib.sha256()
    for images in splits:
        for image in images:
            digest.update(f"{image.image_id} {image.height} {image.width}\n".encode())
            for array in (image.boxes, image.labels, image.area, image.crowd):
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
