"""Analyses of trained runs: their definitions, their results, and what a table still lacks.

An analysis of a run writes runs/<id>/analysis/<name>.json. A file of another version of the analysis, or with other
parameters or weights, counts as missing. These small files are kept with the results, so a fresh clone can write every
table and figure again. The weights of a few runs are kept too, and analyses of those runs can be computed again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Cell, Table
from cds_lib.study.store import Store, fault_of_numbers
from cds_lib.study.text import counted


@dataclass(frozen=True)
class Analysis:
    """Definition of an analysis. `version`: increase it when the code computes something else. `parameters`: everything
    else that decides the numbers. `compares`: whether the run is compared with the baseline run of the same seed, whose
    weights are then needed as well."""

    version: int
    parameters: dict[str, Any]
    compares: bool = False


# Penalty weights, strongest first, chosen on validation images: the run's own or, if it held none back, a part of its
# training images. On features of a miniature, 25 iterations per penalty came within 0.15 points of the accuracy of 200
# iterations at every block, at a fifth of the cost.
_PROBE = {"penalties": [0.1, 0.01, 0.001, 0.0001], "iterations": 30, "held_back": 0.2}
ANALYSES = {
    # Linear probes at every block, on the run's own data set and on another one.
    "probe": Analysis(1, _PROBE),
    "transfer": Analysis(1, {**_PROBE, "dataset": "cifar10"}),
    # Invariance at every block (two views of test images), and linear CKA (all test images).
    "similarity": Analysis(1, {"images": 1000, "seed": 0}, compares=True),
    # Invariance, and CKA with the last block only: for a run whose baseline was tuned separately.
    "invariance": Analysis(1, {"images": 1000, "seed": 0}),
    # Gradients of contrastive losses and cross-entropy, before and after training, on batches of one more epoch.
    "gradients": Analysis(1, {"batches": 8}),
    "calibration": Analysis(1, {"bins": 15}),
    # Pooled stage outputs on test images of the first classes.
    "tsne": Analysis(1, {"classes": 10, "images": 500, "perplexity": 30.0, "neighbours": 10, "seed": 0}),
}


@dataclass(frozen=True)
class Task:
    """Missing analyses of one run: either all of them can be computed, or none."""

    spec: RunSpec
    names: tuple[str, ...]


def path(store: Store, run_id: str, name: str) -> Path:
    """Return the path of an analysis result."""
    return store.run_dir(run_id) / "analysis" / f"{name}.json"


def read(store: Store, run_id: str, name: str) -> dict[str, Any] | None:
    """Read the result of an analysis: "values" (metric -> number) and the data of its pictures. None if it is missing.

    RunError if the file is damaged, or belongs to another analysis or to other runs.
    """
    file, analysis = path(store, run_id, name), ANALYSES[name]
    if not file.exists():
        return None
    found = store.json(run_id, f"analysis/{name}.json", file)
    spec = store.spec(run_id)
    belongs = {"analysis": name, "run": run_id, "compared_with": baseline_of(spec).id if analysis.compares else None}
    if others := [f"{key} is {found.get(key)}" for key, value in belongs.items() if found.get(key) != value]:
        fault = f"its {' and its '.join(others)}"
    elif (found.get("version"), found.get("parameters")) != (analysis.version, analysis.parameters):
        return None
    else:
        fault = fault_of_numbers(found.get("values", {"values": None}))
    if fault:
        raise store.damaged(run_id, f"analysis/{name}.json", fault, file)
    return found if found.get("weights", {}) == weights(store, spec, name) else None


def weights(store: Store, spec: RunSpec, name: str) -> dict[str, str]:
    """Return {run id: sha256 of model.pt} for the runs whose weights an analysis uses and that have it recorded."""
    recorded = {run.id: store.status(run.id).get("weights") for run in needed(spec, name)}
    return {run_id: sha256 for run_id, sha256 in recorded.items() if sha256}


def baseline_of(spec: RunSpec) -> RunSpec:
    """Return the baseline run that a run is compared with."""
    return replace(spec, method="baseline", options={})


def missing(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store) -> tuple[list[Task], list[Task]]:
    """Find the missing analyses of the tables' runs; return tasks that can be computed, and tasks that lack weights."""
    wanted: dict[str, tuple[RunSpec, list[str]]] = {}
    for table in tables:
        for cell in table.cells(profile, seeds):
            for spec in cell.specs if cell.source in ANALYSES else ():
                names = wanted.setdefault(spec.id, (spec, []))[1]
                if cell.source not in names and store.is_done(spec.id) and not read(store, spec.id, cell.source):
                    names.append(cell.source)
    found: tuple[list[Task], list[Task]] = [], []
    for spec, names in wanted.values():
        for tasks, possible in zip(found, (True, False), strict=True):
            own = tuple(name for name in names if _has_weights(spec, name, store) == possible)
            tasks += [Task(spec, own)] if own else []
    return found


def reason(cell: Cell, store: Store) -> str:
    """Say why finished runs of a cell have no value; return an empty text if all have one."""
    lacking = [spec for spec in cell.specs if store.is_done(spec.id) and not read(store, spec.id, cell.source)]
    able = sum(_has_weights(spec, cell.source, store) for spec in lacking)
    parts = [(len(lacking) - able, "without weights"), (able, "not analysed yet")]
    return ", ".join(f"{counted(count, 'finished run')} {why}" for count, why in parts if count)


def _has_weights(spec: RunSpec, name: str, store: Store) -> bool:
    return all(store.model(run.id).exists() for run in needed(spec, name))


def needed(spec: RunSpec, name: str) -> list[RunSpec]:
    """Return the runs whose weights an analysis of `spec` uses."""
    return [spec, *([baseline_of(spec)] if ANALYSES[name].compares else [])]
