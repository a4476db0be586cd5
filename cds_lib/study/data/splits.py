"""Class-balanced subsets and validation splits: NumPy only, the same indices for the same seed everywhere."""

import numpy as np

from cds_lib.errors import UsageError

# Different streams for different purposes: a subset and a validation split of one seed are drawn independently.
SUBSET, VALIDATION = 0, 1


def balanced_subset(labels: np.ndarray, size: int, seed: int, purpose: int = SUBSET) -> np.ndarray:
    """Choose `size` images, as evenly from all classes as possible.

    `labels` (N,) integers -> sorted indices (size,) int64. Classes differ by at most one image unless a class has too
    few images to keep up. Subsets of one seed and purpose are nested: the smaller is part of the larger. Raises
    UsageError when `size` is larger than N or smaller than the number of classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= size <= len(labels):
        raise UsageError(
            f"{size} images cannot be drawn evenly from {len(classes)} classes with {len(labels)} images in all: "
            f"take between {len(classes)} and {len(labels)}, or a larger data set."
        )
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose,))))
    turn = np.empty(len(labels), np.int64)  # in which round an image is taken
    order = np.empty(len(labels), np.int64)  # whose turn it is within a round
    class_order = random.permutation(len(classes))
    for rank, (label, count) in enumerate(zip(classes, counts, strict=True)):
        members = labels == label
        turn[members] = random.permutation(count)
        order[members] = class_order[rank]
    return np.sort(np.lexsort((order, turn))[:size]).astype(np.int64)


def train_val_split(labels: np.ndarray, val_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a class-balanced validation part.

    `labels` (N,) integers -> (training indices, validation indices), sorted int64, disjoint, together 0..N-1.
    `val_size` 0 holds out nothing. Raises UsageError when `val_size` is negative, smaller than the number of classes,
    or leaves a class without a training image.
    """
    everything = np.arange(len(labels), dtype=np.int64)
    if val_size == 0:
        return everything, everything[:0]
    val = balanced_subset(labels, val_size, seed, VALIDATION)
    train = np.setdiff1d(everything, val, assume_unique=True)
    if len(np.unique(labels[train])) < len(np.unique(labels)):
        raise UsageError(
            f"a validation part of {val_size} of {len(labels)} images leaves a class without training images; "
            "choose a smaller one."
        )
    return train, val
