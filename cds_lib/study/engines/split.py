"""The data set of a run, which images it trains on, and whether there are enough of them. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data import coco, sets, splits, standin
from cds_lib.study.plan.spec import RunSpec

# Independent random streams of a run. The split, the order, view 1 and the backbone's initial weights depend on the
# seed alone, so runs of the same seed are paired whatever their method is.
_SPLIT, _WEIGHTS, _ORDER = range(3)


def load(spec: RunSpec, data_root: Path) -> Any:
    """Load the run's data set: images in memory or files, or COCO for a detector. UsageError: see `sets`."""
    if spec.detects:
        return standin.make_coco() if spec.budget.source == "standin" else coco.load(data_root)
    if spec.budget.streamed:
        return sets.load_files(spec.dataset, data_root)
    return sets.load(spec.dataset, data_root, spec.budget.source, spec.budget.stored_size)


def streams(seed: int) -> tuple[int, ...]:
    """Return the seeds of a run's split, of its weights and of the order of its images."""
    return tuple(
        int(np.random.SeedSequence([seed, stream]).generate_state(1)[0]) for stream in (_SPLIT, _WEIGHTS, _ORDER)
    )


def training_split(spec: RunSpec, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted indices of the images that a run trains on and holds back, in a training set with these `labels`.

    If the set, an imported subset, has no more images than the budget takes, all that are not held back are used.
    """
    seed = streams(spec.seed)[_SPLIT]
    held_back = spec.seed if spec.budget.val_seed is None else spec.budget.val_seed
    train, val = splits.train_val_split(labels, spec.budget.val_size, streams(held_back)[_SPLIT])
    if spec.budget.train_size is not None and spec.budget.train_size < len(train):
        train = train[splits.balanced_subset(labels[train], spec.budget.train_size, seed)]
    return train, val


def labelled_part(spec: RunSpec, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return sorted indices of those images in `train` whose labels a semi-supervised run may use."""
    size = round(spec.labelled * len(train))
    return train[splits.balanced_subset(labels[train], size, streams(spec.seed)[_SPLIT])]


def too_small(specs: Sequence[RunSpec], labels: np.ndarray, title: str) -> dict[str, str]:
    """Return {run id: sentence} for the classification runs for which the training set `title`, with these labels, is
    too small: it cannot be split as they want, or no batch is left."""
    known: dict[tuple, str] = {}
    faults = {}
    for spec in specs:
        budget, seeds = spec.budget, (spec.seed, spec.budget.val_seed)  # which class a rounded share is short of
        kind = (budget.val_size, budget.train_size, budget.batch_size, spec.labelled, spec.uses_unlabelled, *seeds)
        if kind not in known:
            known[kind] = _fault(spec, labels)
        if known[kind]:
            faults[spec.id] = f"{title} has {len(labels):,} training images here: {known[kind]}"
    return faults


def _fault(spec: RunSpec, labels: np.ndarray) -> str:
    try:
        images, held_back = training_split(spec, labels)
        if spec.labelled is not None:
            labelled = labelled_part(spec, labels, images)
            images = images if spec.uses_unlabelled else labelled
    except UsageError as error:
        return str(error)
    if len(images) >= spec.budget.batch_size:
        return ""
    return (
        f"{len(images)} may be trained on, with {len(held_back)} held back for validation, and a batch takes "
        f"{spec.budget.batch_size}; import more."
    )
