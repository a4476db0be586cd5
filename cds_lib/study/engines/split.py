"""Which images of a training set a run trains on, and whether there are enough for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import folders, splits
from cds_lib.study.data.registry import DataSet
from cds_lib.study.spec import RunSpec

# Independent random streams of a run; the split, the order, view 1 and the backbone's weights depend on the seed alone,
# so that runs of the same seed are paired whatever their method is.
_SPLIT, _WEIGHTS, _ORDER = range(3)


def streams(seed: int) -> tuple[int, ...]:
    """The seeds of a run's split, of its weights and of the order of its images."""
    return tuple(
        int(np.random.SeedSequence([seed, stream]).generate_state(1)[0]) for stream in (_SPLIT, _WEIGHTS, _ORDER)
    )


def training_split(spec: RunSpec, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images of a training set with these `labels` a run trains on, and which it holds back: sorted indices.

    All that are not held back where the set, a subset that was imported, has no more than the budget takes.
    """
    seed = streams(spec.seed)[_SPLIT]
    held_back = spec.seed if spec.budget.val_seed is None else spec.budget.val_seed
    train, val = splits.train_val_split(labels, spec.budget.val_size, streams(held_back)[_SPLIT])
    if spec.budget.train_size is not None and spec.budget.train_size < len(train):
        train = train[splits.balanced_subset(labels[train], spec.budget.train_size, seed)]
    return train, val


def labelled_part(spec: RunSpec, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Those of the images `train` whose labels a semi-supervised run may use: sorted indices."""
    size = round(spec.labelled * len(train))
    return train[splits.balanced_subset(labels[train], size, streams(spec.seed)[_SPLIT])]


def labels_at_hand(known: DataSet, root: Path) -> np.ndarray | None:
    """The training labels of a set that was imported, which may be any part of it; None where the published files,
    which are not read here, come first. UsageError: the import is broken."""
    if known.is_official(root):
        return None
    if known.image_size is None:
        return folders.read_listing(known, root)[0].labels("train")
    return folders.read_imported(known, root)[0].train_labels


def too_small(specs: Sequence[RunSpec], labels: np.ndarray, title: str) -> dict[str, str]:
    """{run id: sentence} of the classification runs that a training set with these labels, of `title`, is too small
    for."""
    classes = len(np.unique(labels))
    needed = {spec.id: (_needed(spec, classes), spec.budget.val_size) for spec in specs}
    most, held_back = max(needed.values(), default=(0, 0))
    few = (
        f"{title} has {len(labels):,} training images here, and {most:,} are needed for all of these runs, "
        f"{held_back:,} of them for validation: import more."
    )
    faults = {run: few for run, (number, _) in needed.items() if number > len(labels)}
    uneven: dict[tuple, str] = {}
    for spec in specs:
        key = (spec.budget.val_size, spec.budget.train_size, spec.labelled)  # the seed does not matter
        if spec.id not in faults and key not in uneven:
            uneven[key] = _fault(spec, labels)
        if spec.id not in faults and uneven[key]:
            faults[spec.id] = f"{title}: {uneven[key]}"
    return faults


def _fault(spec: RunSpec, labels: np.ndarray) -> str:
    """What is wrong with classes of which there are enough images in all."""
    try:
        train, _ = training_split(spec, labels)
        if spec.labelled is not None:
            labelled_part(spec, labels, train)
    except UsageError as error:
        return str(error)
    return ""


def _needed(spec: RunSpec, classes: int) -> int:
    """Training images, evenly of so many classes, that the run needs: a batch, one of every class, those held back."""
    trained = max(spec.budget.batch_size, classes)
    if spec.labelled is not None:
        least = classes if spec.uses_unlabelled else trained
        trained = next(n for n in count(max(trained, least)) if round(spec.labelled * n) >= least)
    return spec.budget.val_size + trained
