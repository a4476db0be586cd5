"""A finished run as the analyses see it: its network, and the features that this has for images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cds_lib.analysis.features import extract
from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.study.analyses import baseline_of
from cds_lib.study.data import sets, splits
from cds_lib.study.data.sets import ArrayData
from cds_lib.study.engines.setup import load_trained
from cds_lib.study.engines.split import training_split
from cds_lib.study.errors import RunError
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store

_BATCH = 500


@dataclass(frozen=True)
class Features:
    """blocks: block -> (N, C) float32, pooled, rounded to float16; labels (N,) int64; logits (N, classes) float32;
    class_names: of the data set. All on one device."""

    blocks: dict[str, Tensor]
    labels: Tensor
    logits: Tensor
    class_names: tuple[str, ...]


class FinishedRun:
    """`features` and `data` remember what they have returned.

    UsageError: data missing or not as it should be. RunError: damaged weights.
    """

    def __init__(self, spec: RunSpec, store: Store, data_root: Path, device: torch.device):
        self.spec, self.store, self.data_root, self.device = spec, store, data_root, device
        self.features, self.data = cache(self._features), cache(self._data)

    @cached_property
    def baseline(self) -> FinishedRun:
        """The baseline run that it is compared with."""
        return FinishedRun(baseline_of(self.spec), self.store, self.data_root, self.device)

    @cached_property
    def backbone(self) -> nn.Module:
        method = load_trained(self.spec, len(self.data(None).class_names), self.store)
        return method.backbone.to(self.device, memory_format=torch.channels_last)

    def _data(self, dataset: str | None) -> ArrayData:
        """The run's data set, or another one."""
        budget = self.spec.budget
        return sets.load(dataset or self.spec.dataset, self.data_root, budget.source, budget.stored_size)

    def _features(self, part: str, dataset: str | None = None) -> Features | None:
        """Of a part, "train", "val" or "test", of the run's data set or of another one.

        The training and validation images are the run's own; of another data set those that a run of the same budget
        and seed would have. None of "val" where the run held nothing back.
        """
        data = self.data(dataset)
        images, labels = data.test_images, data.test_labels
        if part != "test":
            train, val = training_split(replace(self.spec, dataset=dataset or self.spec.dataset), data.train_labels)
            chosen = train if part == "train" else val
            images, labels = data.train_images[chosen], data.train_labels[chosen]
        if not len(labels):
            return None
        tensors = self._tensors(images, labels)
        batches = evaluation_batches(*tensors, _BATCH, **self.spec.budget.views)
        blocks, logits = extract(self.backbone, (batch for batch, _ in batches))
        rounded = {block: values.half().float() for block, values in blocks.items()}
        if not all(torch.isfinite(values).all() for values in rounded.values()):
            raise RunError(f"Features of run {self.spec.id} ({self.spec.label}) are not finite in float16.")
        return Features(rounded, tensors[1], logits, data.class_names)

    def views(self, images: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """block -> (N, C) float32 of view 1 (without Cutout), and of view 2, of the same test images.

        `images`: how many, class-balanced; all of them if there are fewer. `seed` decides which, and how they are
        augmented, so that every network sees the same views.
        """
        data = self.data(None)
        chosen = splits.balanced_subset(data.test_labels, min(images, len(data.test_labels)), seed)
        pictures, labels = self._tensors(data.test_images[chosen], data.test_labels[chosen])
        batches = Batches(
            pictures, labels, batch_size=len(chosen), seed=seed, views=2, cutout=False, **self.spec.budget.views
        )
        (((view1, view2), _, _),) = batches.epoch(0)
        return extract(self.backbone, view1.split(_BATCH))[0], extract(self.backbone, view2.split(_BATCH))[0]

    def _tensors(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)
