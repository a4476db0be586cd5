"""Images and labels as plain NumPy arrays: the type every reader returns, its fingerprint, and area averaging."""

from __future__ import annotations

import hashlib
import math
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

    def fingerprint(self) -> str:
        """sha256 (hex) of train images, train labels, test images, test labels; labels as little-endian int64."""
        digest = hashlib.sha256()
        for images, labels in ((self.train_images, self.train_labels), (self.test_images, self.test_labels)):
            digest.update(np.ascontiguousarray(images).data)
            digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
        return digest.hexdigest()


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Shrink square images: a pixel is the mean of the square that it covers, S / size pixels wide.

    `images` (N, C, S, S) uint8 -> (N, C, size, size) uint8. The mean is exact (integer sums) and rounded to the
    nearest integer, halves upwards, as Pillow's box filter does. Returns `images` itself when `size` is its side
    already. Raises UsageError when the images are not square or smaller than `size`.
    """
    count, channels, height, width = images.shape
    if height != width or not 1 <= size <= height:
        raise UsageError(f"images of {height} x {width} cannot be averaged to {size} x {size}: choose 1 to {height}.")
    if size == height:
        return images
    # Where k is no whole number every pixel is first repeated: 32 -> 24 is 96 -> 24.
    copies = size // math.gcd(height, size)
    k = height * copies // size
    wide = np.min_scalar_type(255 * k * k + k * k // 2)  # the smallest integer type that holds the sum of one square
    result = np.empty((count, channels, size, size), np.uint8)
    for start in range(0, count, CHUNK):
        chunk = images[start : start + CHUNK].repeat(copies, 2).repeat(copies, 3)
        total = sum(chunk[..., i::k, j::k].astype(wide) for i in range(k) for j in range(k))
        result[start : start + CHUNK] = (total + wide.type(k * k // 2)) // wide.type(k * k)
    return result
