"""Stand-in images: scikit-learn's handwritten digits blended into patches of its two sample photographs.

The construction is that of MNIST-M: the absolute difference of a photograph's patch and a digit. A class is a digit and
a style (the photograph, and the hue of its patch), so there can be as many classes as in the real set. Training and
test images of `make` never share a scan of a digit. COCO's stand-in has digits pasted on photographs, with boxes. The
arithmetic is on integers throughout, so the bytes depend on the machine only through the decoding of the two JPEGs.
"""

from functools import cache

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.coco import CocoImage, DetectionData, described
from cds_lib.study.data.images import Images

TRAIN, TEST = 2000, 1000  # images made by default
PHOTOGRAPHS = ("temple", "flower")  # scikit-learn's china.jpg and flower.jpg
ONE = 256  # 1.0 in the fixed-point arithmetic below

COCO_TRAIN, COCO_VAL = 48, 24
SIDE = 128
STYLES = 8  # colours; with ten digits: 80 categories
EXTENTS = ((12, 28), (36, 80), (100, 120))  # sides of small, medium and large objects by COCO's areas, in pixels


def make(classes: int, size: int = 32, train: int = TRAIN, test: int = TEST) -> Images:
    """Make a stand-in data set: the same arguments give the same bytes.

    Images (train, 3, size, size) and (test, 3, size, size) uint8 RGB, labels int64 in 0..classes-1, in random order,
    class counts differing by at most one. Class c is digit c % 10 in style c // 10; styles differ in photograph and
    tint. With ten classes or fewer there is one style: photograph and tint are random. Raises UsageError for fewer
    than one image a class, fewer than two classes, or a size below 8 (the digits are 8 x 8 scans).
    """
    if classes < 2 or size < 8 or min(train, test) < classes:
        raise UsageError(
            f"stand-in images need two classes, a size of 8 and one image a class in train and test at least, "
            f"not {classes} classes, size {size}, {train} + {test} images."
        )
    scans, digits = load_scans()
    photographs = load_photographs(size)
    styles = -(-classes // 10)
    parts = []
    for split, count in enumerate((train, test)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(split,))))
        labels = random.permutation(np.arange(count, dtype=np.int64) % classes)
        digit, style = labels % 10, labels // 10
        chosen = np.empty(count, np.int64)
        for value in range(10):
            pool = np.flatnonzero(digits == value)
            cut = len(pool) * 2 // 3  # the first two thirds of the scans of each digit are for training
            pool = pool[cut:] if split else pool[:cut]
            here = digit == value
            chosen[here] = pool[random.integers(len(pool), size=int(here.sum()))]
        ink = _place(scans[chosen], size, random)
        parts += [_blend(_backgrounds(photographs, style, styles, size, random), ink, random), labels]
    names = tuple(f"{c % 10} {_style_name(c // 10, styles)}" for c in range(classes))
    return Images(*parts, names)


def load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1,797 digit scans, (N, 8, 8) int32 in 0..255, and the digit of each."""
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes longer than making the images

    digits = load_digits()
    return np.minimum(digits.images.astype(np.int32) * 16, 255), digits.target


def load_photographs(size: int) -> list[np.ndarray]:
    """Return the photographs (3, H, W) uint8, scaled by a whole factor so that a patch of `size` shows something."""
    from sklearn.datasets import load_sample_images

    ready = []
    for image in load_sample_images().images:
        height, width, _ = image.shape
        shrink = max(1, min(height, width) // (4 * size))
        enlarge = -(-size // min(height, width))
        height, width = height // shrink * shrink, width // shrink * shrink
        blocks = image[:height, :width].astype(np.int32).reshape(height // shrink, shrink, width // shrink, shrink, 3)
        image = (blocks.sum(axis=(1, 3)) // shrink**2).astype(np.uint8)
        ready.append(np.ascontiguousarray(image.repeat(enlarge, 0).repeat(enlarge, 1).transpose(2, 0, 1)))
    return ready


def _place(scans: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Enlarge each scan (N, 8, 8) to 60-95 % of the image at a random place -> ink (N, size, size) int16 in 0..255."""
    count = len(scans)
    extent = random.integers(60 * size, 95 * size + 1, size=(count, 1)) * ONE // 100  # of the digit, in 1/256 pixel

    def weights() -> np.ndarray:
        """(N, size, 8) int32: how much of each scan line goes into each image line, in 1/256 (linear interpolation)."""
        start = random.integers(0, size * ONE - extent[:, 0] + 1)[:, None]
        centre = np.arange(size) * ONE + ONE // 2
        source = (centre - start) * (8 * ONE) // extent - ONE // 2  # position in the scan, in 1/256 of a scan line
        return np.maximum(ONE - np.abs(source[:, :, None] - np.arange(8) * ONE), 0).astype(np.int32)

    rows, columns = weights(), weights()
    ink = (rows @ scans >> 8) @ columns.transpose(0, 2, 1) >> 8
    return np.clip((ink - 70) * 2, 0, 255).astype(np.int16)  # a crisper edge than interpolation leaves


def _backgrounds(
    photographs: list[np.ndarray], style: np.ndarray, styles: int, size: int, random: np.random.Generator
) -> np.ndarray:
    """A random, perhaps mirrored patch for each image, tinted in its style's hue -> (N, 3, size, size) uint16."""
    count = len(style)
    hues = -(-styles // len(PHOTOGRAPHS))
    which = style % len(PHOTOGRAPHS) if styles > 1 else random.integers(len(PHOTOGRAPHS), size=count)
    spread = 1536 // hues * (2 if styles > 1 else 3) // 3  # gaps between the hues of neighbouring styles
    hue = style // len(PHOTOGRAPHS) * 1536 // hues + random.integers(spread, size=count)
    patches = np.empty((count, 3, size, size), np.uint8)
    mirrored = random.integers(2, size=count)
    for number, photograph in enumerate(photographs):
        _, height, width = photograph.shape
        top = random.integers(height - size + 1, size=count)
        left = random.integers(width - size + 1, size=count)
        for i in np.flatnonzero(which == number):
            patch = photograph[:, top[i] : top[i] + size, left[i] : left[i] + size]
            patches[i] = patch[:, :, ::-1] if mirrored[i] else patch
    # Brightened, so that dark places show the tint as well.
    grey = patches.sum(axis=1, keepdims=True, dtype=np.uint16) // 4 + 64
    tint = hue_to_rgb(hue)[:, :, None, None]
    tinted = grey * tint // 85  # 0..765: every product fits in 16 bits
    return (patches + tinted) // 4  # a quarter photograph, three quarters its grey version in the tint


def _blend(backgrounds: np.ndarray, ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """|background - digit|, with a little noise -> (N, 3, size, size) uint8."""
    blended = np.abs(backgrounds.astype(np.int16) - ink[:, None])
    blended += random.integers(-8, 8, size=backgrounds.shape, dtype=np.int8)  # fast: 16 values need no rejection
    return np.clip(blended, 0, 255, out=blended).astype(np.uint8)


def hue_to_rgb(hue: np.ndarray) -> np.ndarray:
    """Fully saturated colours (N, 3) uint16 in 0..255 of hues (N,) in 0..1535 (red 0, green 512, blue 1024)."""
    position = (hue[:, None] - np.array([0, 512, 1024])) % 1536  # distance from each primary, once round the circle
    away = np.minimum(position, 1536 - position)
    return np.clip(512 - away, 0, 255).astype(np.uint16)


def _style_name(style: int, styles: int) -> str:
    if styles == 1:
        return "on any photograph"
    hues = -(-styles // len(PHOTOGRAPHS))
    return f"on the {PHOTOGRAPHS[style % len(PHOTOGRAPHS)]}, tint {style // len(PHOTOGRAPHS) + 1} of {hues}"


@cache
def make_coco() -> DetectionData:
    """Make the stand-in for COCO: 48 training and 24 validation images, the same bytes every time.

    A category is a digit and its colour; an image has one to four objects.
    """
    scans, digits = load_scans()
    photographs = load_photographs(SIDE)
    parts = []
    for split, count in enumerate((COCO_TRAIN, COCO_VAL)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(split,))))
        images = []
        for number in range(1, count + 1):
            photograph = photographs[int(random.integers(len(photographs)))]
            top, left = (int(random.integers(length - SIDE + 1)) for length in photograph.shape[1:])
            pixels = photograph[:, top : top + SIDE, left : left + SIDE] // 2
            boxes, labels = [], []
            for extent in _extents(number, random):
                chosen = int(random.integers(len(scans)))
                style = int(random.integers(STYLES))
                x, y = (int(v) for v in random.integers(0, SIDE - extent + 1, size=2))
                colour = hue_to_rgb(np.array([style * 1536 // STYLES]))[0]
                boxes.append(_paste(pixels, scans[chosen], colour, x, y, extent))
                labels.append(int(digits[chosen]) * STYLES + style + 1)
            corners = np.array(boxes, np.float32)
            area = (corners[:, 2:] - corners[:, :2]).prod(1)
            crowd = np.zeros(len(boxes), bool)
            images.append(CocoImage(number, pixels, SIDE, SIDE, corners, np.array(labels), area, crowd))
        parts.append(tuple(images))
    names = tuple(f"{c // STYLES} in colour {c % STYLES + 1}" for c in range(10 * STYLES))
    note = "stand-in images made from scikit-learn's digits and photographs: AP on them means nothing"
    return described(*parts, names, "standin", note)


def _extents(number: int, random: np.random.Generator) -> list[int]:
    """Draw the sides of an image's objects; every third image has one large object and no other."""
    if number % 3 == 0:
        return [int(random.integers(*EXTENTS[2]))]
    sizes = [EXTENTS[int(random.integers(2))] for _ in range(int(random.integers(1, 5)))]
    return [int(random.integers(*size)) for size in sizes]


def _paste(
    image: np.ndarray, scan: np.ndarray, colour: np.ndarray, x: int, y: int, extent: int
) -> tuple[int, int, int, int]:
    """Draw the digit in place, in a square of side `extent` at (x, y); return its ink's corners (x1, y1, x2, y2)."""
    index = np.arange(extent) * 8 // extent
    ink = scan[np.ix_(index, index)] > 100
    patch = image[:, y : y + extent, x : x + extent]
    patch[:, ink] = colour[:, None]
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1
