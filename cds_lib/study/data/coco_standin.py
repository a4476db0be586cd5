"""A stand-in for COCO: scikit-learn's digits pasted on its photographs, with their boxes."""

from __future__ import annotations

from functools import cache

import numpy as np

from cds_lib.study.data import standin
from cds_lib.study.data.coco import CocoImage, DetectionData, described

TRAIN, VAL = 48, 24
SIDE = 128
STYLES = 8  # colours; times ten digits: 80 categories
EXTENTS = ((12, 28), (36, 80), (100, 120))  # of small, medium and large objects by COCO's areas, in pixels


@cache
def make() -> DetectionData:
    """24 validation images, and those of 48 that are trained on; the same bytes every time.

    The category is the digit and its colour; an image has one to four objects.
    """
    scans, digits = standin.load_scans()
    photographs = standin.load_photographs(SIDE)
    parts = []
    for split, count in enumerate((TRAIN, VAL)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(split,))))
        images = []
        for number in range(1, count + 1):
            pixels = _background(photographs, random)
            boxes, labels = [], []
            for extent in _extents(number, random):
                chosen = int(random.integers(len(scans)))
                style = int(random.integers(STYLES))
                x, y = (int(v) for v in random.integers(0, SIDE - extent + 1, size=2))
                colour = standin.hue_to_rgb(np.array([style * 1536 // STYLES]))[0]
                boxes.append(_paste(pixels, scans[chosen], colour, x, y, extent))
                labels.append(int(digits[chosen]) * STYLES + style + 1)
            corners = np.array(boxes, np.float32)
            area = (corners[:, 2:] - corners[:, :2]).prod(1)
            crowd = np.zeros(len(boxes), bool)
            images.append(CocoImage(number, None, pixels, SIDE, SIDE, corners, np.array(labels), area, crowd))
        parts.append(tuple(images))
    names = tuple(f"{c // STYLES} in colour {c % STYLES + 1}" for c in range(10 * STYLES))
    note = "stand-in images made from scikit-learn's digits and photographs: AP on them means nothing"
    return described(*parts, names, "standin", note)


def _extents(number: int, random: np.random.Generator) -> list[int]:
    """Sides of the objects of an image; every third image has a large one, and then no other."""
    if number % 3 == 0:
        return [int(random.integers(*EXTENTS[2]))]
    sizes = [EXTENTS[int(random.integers(2))] for _ in range(int(random.integers(1, 5)))]
    return [int(random.integers(*size)) for size in sizes]


def _background(photographs: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    photograph = photographs[int(random.integers(len(photographs)))]
    top, left = (int(random.integers(length - SIDE + 1)) for length in photograph.shape[1:])
    return photograph[:, top : top + SIDE, left : left + SIDE] // 2


def _paste(
    image: np.ndarray, scan: np.ndarray, colour: np.ndarray, x: int, y: int, extent: int
) -> tuple[int, int, int, int]:
    """Draw the digit in a square of side `extent` at (x, y), in place; the corners (x1, y1, x2, y2) of its ink."""
    index = np.arange(extent) * 8 // extent
    ink = scan[np.ix_(index, index)] > 100
    patch = image[:, y : y + extent, x : x + extent]
    patch[:, ink] = colour[:, None]
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1
