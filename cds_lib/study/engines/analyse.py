"""Compute analyses of one finished run and write their results, in a worker process of `analysis_engine`."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cds_lib.analysis import embedding, similarity
from cds_lib.analysis.features import extract
from cds_lib.analysis.gradients import compare_gradients
from cds_lib.analysis.probe import probe
from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.evaluation.calibration import calibration
from cds_lib.study import analyses
from cds_lib.study.data import sets, splits
from cds_lib.study.engines import gpus, provenance
from cds_lib.study.engines.setup import load_trained, prepare, trained_weights
from cds_lib.study.engines.split import training_split
from cds_lib.study.errors import RunError, one_sentence
from cds_lib.study.files import write_json
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store

Result = tuple[dict[str, float], dict[str, Any]]  # metric -> number, and what else the pictures need
_BATCH = 500


@dataclass(frozen=True)
class Features:
    """Features of images. blocks: block -> (N, C) float32, pooled, rounded to float16; labels (N,) int64; logits
    (N, classes) float32; class_names: those of the data set. All tensors are on one device."""

    blocks: dict[str, Tensor]
    labels: Tensor
    logits: Tensor
    class_names: tuple[str, ...]


class FinishedRun:
    """A finished run, its data and its features; the methods `features` and `data` are cached.

    UsageError: missing or invalid data. RunError: damaged weights.
    """

    def __init__(self, spec: RunSpec, store: Store, data_root: Path, device: torch.device):
        self.spec, self.store, self.data_root, self.device = spec, store, data_root, device
        self.features, self.data = cache(self._features), cache(self._data)

    @cached_property
    def baseline(self) -> FinishedRun:
        """The baseline run that it is compared with."""
        return FinishedRun(analyses.baseline_of(self.spec), self.store, self.data_root, self.device)

    @cached_property
    def backbone(self) -> nn.Module:
        method = load_trained(self.spec, len(self.data(None).class_names), self.store)
        return method.backbone.to(self.device, memory_format=torch.channels_last)

    def _data(self, dataset: str | None) -> sets.Images:
        """Load the run's data set, or another one."""
        budget = self.spec.budget
        return sets.load(dataset or self.spec.dataset, self.data_root, budget.source, budget.stored_size)

    def _features(self, part: str, dataset: str | None = None) -> Features | None:
        """Extract the features of a part ("train", "val" or "test") of the run's data set or of another one.

        Training and validation images are the run's own; for another data set, those of a run with the same budget and
        seed. Return None for "val" if the run held nothing back.
        """
        data = self.data(dataset)
        images, labels = data.test_images, data.test_labels
        if part != "test":
            train, val = training_split(self.spec, data.train_labels)
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
        """Return block -> (N, C) float32 for view 1 (without Cutout), and for view 2, of the same test images.

        `images`: how many, class-balanced, or all if there are fewer. `seed` decides which, and how they are augmented,
        so every network sees the same views.
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


def analyse(spec: RunSpec, names: Iterable[str], store: Store, data_root: Path) -> dict[str, str]:
    """Compute and write these analyses of a finished run; return {analysis: sentence} for those that failed."""
    run = FinishedRun(spec, store, data_root, torch.device(gpus.device()))
    faults = {}
    for name in names:
        try:
            write_json(analyses.path(store, spec.id, name), compute(run, name))
        except Exception as error:
            traceback.print_exc()
            faults[name] = one_sentence(error)
    return faults


def compute(run: FinishedRun, name: str) -> dict[str, Any]:
    """Compute an analysis and return it as it is written: its numbers, and everything that they depend on."""
    spec, analysis = run.spec, analyses.ANALYSES[name]
    values, pictures = _COMPUTE[name](run, analysis.parameters)
    other = analysis.parameters.get("dataset")
    return {
        "analysis": name,
        "version": analysis.version,
        "parameters": analysis.parameters,
        "run": spec.id,
        "compared_with": run.baseline.spec.id if analysis.compares else None,
        "weights": analyses.weights(run.store, spec, name),
        "seed": spec.seed,
        "data": {dataset or spec.dataset: run.data(dataset).provenance for dataset in dict.fromkeys((None, other))},
        "code": provenance.code_version(),
        "versions": provenance.versions(),
        "computed": provenance.now(),
        "values": values,
        **pictures,
    }


def last_blocks(blocks: Iterable[str]) -> dict[str, str]:
    """Return stage -> its last block, whose output is the stage's: {"1": "1.2", ...}."""
    return {block.split(".")[0]: block for block in blocks}


def _probes(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Return the test accuracy of a linear probe at every block; a stage's value is that of its last block. The classes
    are the run's own, or those of another data set, which the network was never trained on."""
    dataset = parameters.get("dataset")
    metric = "transfer_top1" if dataset else "probe_top1"
    train, val, test = (run.features(part, dataset) for part in ("train", "val", "test"))
    fitted = train.blocks, train.labels
    if val:
        chosen = val.blocks, val.labels
    else:
        count = max(round(parameters["held_back"] * len(train.labels)), len(train.class_names))
        parts = splits.train_val_split(train.labels.cpu().numpy(), count, run.spec.seed)
        fitted, chosen = (
            ({name: values[index] for name, values in train.blocks.items()}, train.labels[index])
            for index in (torch.from_numpy(part).to(train.labels.device) for part in parts)
        )
    found = probe(*fitted, *chosen, test.blocks, test.labels, parameters["penalties"], parameters["iterations"])
    values = {f"{metric}_{block}": result.test_top1 for block, result in found.items()}
    values |= {f"{metric}_stage{stage}": found[block].test_top1 for stage, block in last_blocks(found).items()}
    return values, {"blocks": {block: asdict(result) for block, result in found.items()}}


def _invariance(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Measure at every block the invariance to augmentation, and linear CKA with the last block."""
    view1, view2 = run.views(parameters["images"], parameters["seed"])
    test = run.features("test").blocks
    last = test[list(test)[-1]]
    values, cosines = {}, {}
    for block, ours in test.items():
        same, different = similarity.view_similarity(view1[block], view2[block])
        values[f"invariance_{block}"] = same
        values[f"cka_last_{block}"] = _cka(block, ours, last)
        cosines[block] = {"same_image": same, "different_images": different}
    return values, {"blocks": cosines}


def _similarity(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Measure what `_invariance` does, and linear CKA with the baseline's block."""
    values, pictures = _invariance(run, parameters)
    theirs = run.baseline.features("test").blocks
    for block, ours in run.features("test").blocks.items():
        values[f"cka_baseline_{block}"] = _cka(block, ours, theirs[block])
    return values, pictures


def _cka(block: str, ours: Tensor, other: Tensor) -> float:
    if math.isnan(found := similarity.linear_cka(ours, other)):
        raise RunError(
            f"Linear CKA has no value at block {block}: the features of this block, of the last one or of the "
            "baseline's block are the same for all test images, so that network has collapsed: see its history.csv."
        )
    return found


def _gradients(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Compare gradients on the weights that all losses share, the backbone before its classifier; mean over batches."""
    setup = prepare(run.spec, run.store, run.data_root, run.device)
    method = setup.method.to(run.device).train()
    classifier = {id(parameter) for parameter in method.backbone.get_classifier().parameters()}
    shared = [parameter for parameter in method.backbone.parameters() if id(parameter) not in classifier]
    values = {}
    for when in ("first", "last"):
        if when == "last":
            method.load_state_dict(trained_weights(run.spec, run.store))
        found = []
        for views, labels, _ in islice(setup.batches.epoch(run.spec.budget.epochs), parameters["batches"]):
            losses = method(*views, labels=labels)
            main = losses.pop("cross_entropy")
            found.append(compare_gradients(main, sum(losses.values()), shared))
        ratio, cosine = np.mean(found, axis=0).tolist()
        values |= {f"gradient_ratio_{when}": ratio, f"gradient_cosine_{when}": cosine}
    return values, {}


def _calibration(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Measure calibration on the test images, with the reliability diagram."""
    features = run.features("test")
    found = asdict(calibration(features.logits, features.labels, parameters["bins"]))
    return {name: found.pop(name) for name in ("ece", "nll")}, {"diagram": found}


def _tsne(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Embed pooled stages on test images of the first classes by t-SNE; score k-NN and silhouette in the full space."""
    features = run.features("test")
    labels = features.labels.cpu().numpy()
    members = np.flatnonzero(labels < parameters["classes"])
    chosen = members[
        splits.balanced_subset(labels[members], min(parameters["images"], len(members)), parameters["seed"])
    ]
    neighbours = min(parameters["neighbours"], len(chosen) - 1)
    perplexity = min(parameters["perplexity"], (len(chosen) - 1) / 3)
    values, points = {}, {}
    for stage, block in last_blocks(features.blocks).items():
        space = embedding.standardised(features.blocks[block].cpu().numpy()[chosen])
        values[f"knn_stage{stage}"] = embedding.neighbour_accuracy(space, labels[chosen], neighbours)
        values[f"silhouette_stage{stage}"] = embedding.silhouette(space, labels[chosen])
        points[stage] = embedding.tsne(space, perplexity, parameters["seed"]).astype(float).round(2).tolist()
    picture = {
        "classes": list(features.class_names[: parameters["classes"]]),
        "labels": labels[chosen].tolist(),
        "perplexity": perplexity,
        "neighbours": neighbours,
        "points": points,
    }
    return values, {"picture": picture}


_COMPUTE: dict[str, Callable[[FinishedRun, dict[str, Any]], Result]] = {
    "probe": _probes,
    "transfer": _probes,
    "similarity": _similarity,
    "invariance": _invariance,
    "gradients": _gradients,
    "calibration": _calibration,
    "tsne": _tsne,
}
