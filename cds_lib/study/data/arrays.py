"""Images and labels as plain NumPy arrays: the type every reader returns, its fingerprint, and area averaging."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from cds_lib.errors import UsageError

CHUNK = 2048  # images averaged at a time: keeps the temporary arrays near 10 MiB at 32 x 32


class Arrays(NamedTuple):
    """Images (N, 3, H, W) uint8, labels (N,) int64 counting from 0, and one name per class."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def fingerprint(arrays: Arrays) -> str:
    """sha256 (hex) of train images, train labels, test images, test labels; labels as little-endian int64."""
    digest = hashlib.sha256()
    for images, labels in ((arrays.train_images, arrays.train_labels), (arrays.test_images, arrays.test_labels)):
        digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Shrink square images by averaging k x k blocks, k = side / size.

    `images` (N, C, S, S) uint8 -> (N, C, size, size) uint8. The mean is exact (integer sums) and rounded to the
    nearest integer, halves upwards, as Pillow's box filter does. Returns `images` itself when `size` is its side
    already. Raises UsageError when the images are not square or `size` does not divide their side.
    """
    count, channels, height, width = images.shape
    if height != width or size < 1 or height % size:
        raise UsageError(f"image size {size} does not divide {height} x {width}; choose a divisor of the image side.")
    k = height // size
    if k == 1:
        return images
    wide = np.min_scalar_type(255 * k * k + k * k // 2)  # the smallest integer type that holds the sum of one block
    result = np.empty((count, channels, size, size), np.uint8)
    for start in range(0, count, CHUNK):
        block = images[start : start + CHUNK]
        rows = block[:, :, 0::k].astype(wide)
        for offset in range(1, k):
            rows += block[:, :, offset::k]
        total = rows[..., 0::k].copy()
        for offset in range(1, k):
            total += rows[..., offset::k]
        total += wide.type(k * k // 2)
        total //= wide.type(k * k)
        result[start : start + CHUNK] = total
    return result
