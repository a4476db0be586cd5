"""Compute analyses of one finished run and write their results. What runs inside a worker process of the analyses."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cds_lib.analysis import embedding, similarity
from cds_lib.analysis.gradients import compare_gradients
from cds_lib.analysis.probe import probe
from cds_lib.evaluation.calibration import calibration
from cds_lib.study import analyses
from cds_lib.study.data import splits
from cds_lib.study.engines import gpus, provenance
from cds_lib.study.engines.finished import FinishedRun
from cds_lib.study.engines.setup import prepare, trained_weights
from cds_lib.study.errors import RunError, one_sentence
from cds_lib.study.files import write_json
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store

Result = tuple[dict[str, float], dict[str, Any]]  # metric -> number, and what the pictures need besides


def analyse(spec: RunSpec, names: Iterable[str], store: Store, data_root: Path) -> dict[str, str]:
    """Compute and write these analyses of a finished run; returns {analysis: sentence} of those that failed."""
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
    """The result of an analysis as it is written: its numbers, and all that they depend on."""
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
    """Stage -> its last block, whose output is the stage's: {"1": "1.2", ...}."""
    return {block.split(".")[0]: block for block in blocks}


def _probe(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """Test accuracy of a linear probe at every block, and under the stage's name that of its last block."""
    return _probes(run, parameters, None, "probe_top1")


def _transfer(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """The same for the classes of another data set, which the network was never trained on."""
    return _probes(run, parameters, parameters["dataset"], "transfer_top1")


def _probes(run: FinishedRun, parameters: dict[str, Any], dataset: str | None, metric: str) -> Result:
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
    """At every block: invariance to augmentation, and linear CKA with the last block."""
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
    """The same, and linear CKA with the baseline's block."""
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
    """On the weights that all losses share, those of the backbone before its classifier: means over the batches."""
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
    """Calibration on the test images, with the reliability diagram."""
    features = run.features("test")
    found = asdict(calibration(features.logits, features.labels, parameters["bins"]))
    return {name: found.pop(name) for name in ("ece", "nll")}, {"diagram": found}


def _tsne(run: FinishedRun, parameters: dict[str, Any]) -> Result:
    """The pooled stages on test images of the first classes: a picture of each, and what holds in the space itself."""
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
    "probe": _probe,
    "transfer": _transfer,
    "similarity": _similarity,
    "invariance": _invariance,
    "gradients": _gradients,
    "calibration": _calibration,
    "tsne": _tsne,
}
