"""The features of a finished run's network: computed once, kept beside its weights, used by every analysis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cds_lib.analysis.features import extract
from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.files import replacing
from cds_lib.study.data import sets, splits
from cds_lib.study.data.sets import ArrayData
from cds_lib.study.engines.setup import load_trained
from cds_lib.study.engines.split import training_split
from cds_lib.study.errors import RunError
from cds_lib.study.files import sha256_of
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store

VERSION = 1
_BATCH = 500


@dataclass(frozen=True)
class Features:
    """Of the parts "train", "val" (where the run held images back) and "test" of a data set, in its own order.

    blocks: part -> block -> (N, C) float32, pooled, rounded to float16 (whether they come from the file or not, so that
    results do not depend on it); labels: part -> (N,) int64; logits: (N, classes) float32 of the test images;
    class_names: of the data set. All on one device.
    """

    blocks: dict[str, dict[str, Tensor]]
    labels: dict[str, Tensor]
    logits: Tensor
    class_names: tuple[str, ...]


class FeatureCache:
    """The networks of a store's finished runs as the analyses see them; remembers what it has loaded."""

    def __init__(self, store: Store, data_root: Path, device: torch.device):
        self.store, self.data_root, self.device = store, data_root, device
        self._data: dict[tuple, ArrayData] = {}
        self._features: dict[tuple, Features] = {}

    def features(self, spec: RunSpec, dataset: str | None = None) -> Features:
        """The features of a run's network on its own data set or on another one.

        The training and validation images are the run's own; of another data set those that a run of the same budget
        and seed would have. Read from runs/<id>/features.npz (features_<dataset>.npz) if that file is whole and belongs
        to these weights and images, else computed and written.

        Raises:
            UsageError: data missing or not as it should be. RunError: damaged weights.
        """
        wanted = replace(spec, dataset=dataset or spec.dataset)
        if (spec.id, wanted.dataset) not in self._features:
            data = self._load_data(wanted)
            name = "features.npz" if dataset is None else f"features_{dataset}.npz"
            path = self.store.run_dir(spec.id) / name
            weights = sha256_of(self.store.model(spec.id))
            key = f"{VERSION} {weights} {data.provenance['sha256']} {spec.budget.stored_size}"
            arrays = _load(path, key)
            if arrays is None:
                arrays = self._extract(spec, data, *training_split(wanted, data.train_labels))
                with replacing(path) as file:
                    np.savez(file, key=np.array(key), **arrays)
            self._features[spec.id, wanted.dataset] = self._on_device(arrays, data)
        return self._features[spec.id, wanted.dataset]

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

    def _extract(self, spec: RunSpec, data: ArrayData, train: np.ndarray, val: np.ndarray) -> dict[str, np.ndarray]:
        backbone = self._backbone(spec)
        parts = {
            "train": (data.train_images[train], data.train_labels[train]),
            "val": (data.train_images[val], data.train_labels[val]),
            "test": (data.test_images, data.test_labels),
        }
        arrays: dict[str, np.ndarray] = {}
        for part, (images, labels) in parts.items():
            if not len(labels):
                continue
            batches = evaluation_batches(*self._tensors(images, labels), _BATCH, **spec.budget.views)
            blocks, logits = extract(backbone, (batch for batch, _ in batches))
            rounded = {block: values.half() for block, values in blocks.items()}
            if not all(torch.isfinite(values).all() for values in rounded.values()):
                raise RunError(f"Features of run {spec.id} ({spec.label}) are not finite in float16.")
            arrays |= {f"{part}/{block}": values.cpu().numpy() for block, values in rounded.items()}
            arrays[f"{part}/labels"] = labels
            if part == "test":
                arrays["logits"] = logits.cpu().numpy()
        return arrays

    def _on_device(self, arrays: dict[str, np.ndarray], data: ArrayData) -> Features:
        blocks: dict[str, dict[str, Tensor]] = {}
        labels: dict[str, Tensor] = {}
        for name, array in arrays.items():
            part, _, block = name.partition("/")
            (tensor,) = self._tensors(array)
            if block == "labels":
                labels[part] = tensor
            elif block:
                blocks.setdefault(part, {})[block] = tensor.float()
        return Features(blocks, labels, *self._tensors(arrays["logits"]), data.class_names)


def _load(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """What the file holds; None if it is not there, not whole, or of other weights or images."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            if str(file["key"]) != key:
                return None
            return {name: file[name] for name in file.files if name != "key"}
    except Exception:  # a damaged zip file raises whatever its damage leads to; computing it again mends it
        return None
