"""The features of finished runs' networks, as the analyses see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cds_lib.analysis.features import extract
from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.study.data import sets, splits
from cds_lib.study.data.sets import ArrayData
from cds_lib.study.engines.setup import load_trained
from cds_lib.study.engines.split import training_split
from cds_lib.study.errors import RunError
from cds_lib.study.spec import RunSpec
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


class FeatureCache:
    """The networks of a store's finished runs; remembers the features that it has computed."""

    def __init__(self, store: Store, data_root: Path, device: torch.device):
        self.store, self.data_root, self.device = store, data_root, device
        self._data: dict[tuple, ArrayData] = {}
        self._features: dict[tuple, Features | None] = {}

    def features(self, spec: RunSpec, part: str, dataset: str | None = None) -> Features | None:
        """The features of a run's network on a part, "train", "val" or "test", of its own data set or of another one.

        The training and validation images are the run's own; of another data set those that a run of the same budget
        and seed would have. None of "val" where the run held nothing back.

        Raises:
            UsageError: data missing or not as it should be. RunError: damaged weights.
        """
        wanted = replace(spec, dataset=dataset or spec.dataset)
        key = (spec.id, wanted.dataset, part)
        if key not in self._features:
            self._features[key] = self._extract(spec, self._load_data(wanted), wanted, part)
        return self._features[key]

    def views(self, spec: RunSpec, images: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """block -> (N, C) float32 of view 1 (without Cutout), and of view 2, of the same test images.

        `images`: how many, class-balanced; all of them if there are fewer. `seed` decides which, and how they are
        augmented, so that every network sees the same views.
        """
        data = self._load_data(spec)
        chosen = splits.balanced_subset(data.test_labels, min(images, len(data.test_labels)), seed)
        pictures, labels = self._tensors(data.test_images[chosen], data.test_labels[chosen])
        batches = Batches(
            pictures, labels, batch_size=len(chosen), seed=seed, views=2, cutout=False, **spec.budget.views
        )
        (((view1, view2), _, _),) = batches.epoch(0)
        backbone = self._backbone(spec)
        return extract(backbone, view1.split(_BATCH))[0], extract(backbone, view2.split(_BATCH))[0]

    def provenance(self, spec: RunSpec, dataset: str | None = None) -> dict:
        """Where the images of a run's data set, or of another one, come from."""
        return self._load_data(replace(spec, dataset=dataset or spec.dataset)).provenance

    def _load_data(self, spec: RunSpec) -> ArrayData:
        key = (spec.dataset, spec.budget.source, spec.budget.stored_size)
        if key not in self._data:
            self._data[key] = sets.load(spec.dataset, self.data_root, spec.budget.source, spec.budget.stored_size)
        return self._data[key]

    def _backbone(self, spec: RunSpec) -> nn.Module:
        method = load_trained(spec, len(self._load_data(spec).class_names), self.store)
        return method.backbone.to(self.device, memory_format=torch.channels_last)

    def _tensors(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)

    def _extract(self, spec: RunSpec, data: ArrayData, wanted: RunSpec, part: str) -> Features | None:
        images, labels = data.test_images, data.test_labels
        if part != "test":
            train, val = training_split(wanted, data.train_labels)
            chosen = train if part == "train" else val
            images, labels = data.train_images[chosen], data.train_labels[chosen]
        if not len(labels):
            return None
        tensors = self._tensors(images, labels)
        batches = evaluation_batches(*tensors, _BATCH, **spec.budget.views)
        blocks, logits = extract(self._backbone(spec), (batch for batch, _ in batches))
        rounded = {block: values.half().float() for block, values in blocks.items()}
        if not all(torch.isfinite(values).all() for values in rounded.values()):
            raise RunError(f"Features of run {spec.id} ({spec.label}) are not finite in float16.")
        return Features(rounded, tensors[1], logits, data.class_names)
