"""The analyses of trained runs: which there are, what was computed, and what a table still lacks.

The result of one analysis of one run is runs/<id>/analysis/<name>.json. A file that another version of the analysis
wrote, with other parameters or of other weights, counts as missing. The small files are kept with the results, and
the weights of a few runs: in a fresh clone every table and figure can be written again, of those runs computed again.
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
    """version: raise it when the code computes something else; parameters: all else that decides the numbers.

    compares: with the baseline run of the same seed, whose weights it needs as well.
    """

    version: int
    parameters: dict[str, Any]
    compares: bool = False


# Weights of the penalty, strongest first; validation images choose. They are the run's own, or a part of the training
# images where it held none back. On features of a miniature, 25 iterations a penalty came within 0.15 points of the
# accuracy of 200 at every block, at a fifth of the cost.
_PROBE = {"penalties": [0.1, 0.01, 0.001, 0.0001], "iterations": 30, "held_back": 0.2}
ANALYSES = {
    # Linear probes at every block, on the run's own data set and on another.
    "probe": Analysis(1, _PROBE),
    "transfer": Analysis(1, {**_PROBE, "dataset": "cifar10"}),
    # Invariance at every block (test images, their two views), and linear CKA (all test images).
    "similarity": Analysis(1, {"images": 1000, "seed": 0}, compares=True),
    # The first two of these, of a run whose baseline was tuned by itself.
    "invariance": Analysis(1, {"images": 1000, "seed": 0}),
    # The contrastive losses against the cross-entropy, before and after training, on the batches of an epoch to come.
    "gradients": Analysis(1, {"batches": 8}),
    "calibration": Analysis(1, {"bins": 15}),
    # The pooled stages on test images of the first classes.
    "tsne": Analysis(1, {"classes": 10, "images": 500, "perplexity": 30.0, "neighbours": 10, "seed": 0}),
}


@dataclass(frozen=True)
class Task:
    """Analyses of one run that are to be computed, or that cannot be."""

    spec: RunSpec
    names: tuple[str, ...]


def path(store: Store, run_id: str, name: str) -> Path:
    """Where the result of an analysis is."""
    return store.run_dir(run_id) / "analysis" / f"{name}.json"


def read(store: Store, run_id: str, name: str) -> dict[str, Any] | None:
    """The result of an analysis: "values" (metric -> number) and what its pictures need; None if it is missing.

    RunError if the file is damaged, or is another analysis or of other runs.
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
        fault = fault_of_numbers(found["values"])
    if fault:
        raise store.damaged(run_id, f"analysis/{name}.json", fault, file)
    return found if found.get("weights", {}) == weights(store, spec, name) else None


def weights(store: Store, spec: RunSpec, name: str) -> dict[str, str]:
    """Of the runs whose weights an analysis is made from: id -> sha256 of model.pt, where the run has it recorded."""
    recorded = {run.id: store.status(run.id).get("weights") for run in needed(spec, name)}
    return {run_id: sha256 for run_id, sha256 in recorded.items() if sha256}


def baseline_of(spec: RunSpec) -> RunSpec:
    """The baseline run that a run is compared with."""
    return replace(spec, method="baseline", options={})


def missing(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store) -> tuple[list[Task], list[Task]]:
    """Missing analyses of the tables' runs: tasks that can be computed, and tasks whose weights are not there."""
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
    """Why finished runs of a cell have no value: an empty text if all have one."""
    lacking = [spec for spec in cell.specs if store.is_done(spec.id) and not read(store, spec.id, cell.source)]
    able = sum(_has_weights(spec, cell.source, store) for spec in lacking)
    parts = [(len(lacking) - able, "without weights"), (able, "not analysed yet")]
    return ", ".join(f"{counted(count, 'finished run')} {why}" for count, why in parts if count)


def _has_weights(spec: RunSpec, name: str, store: Store) -> bool:
    return all(store.model(run.id).exists() for run in needed(spec, name))


def needed(spec: RunSpec, name: str) -> list[RunSpec]:
    """The runs whose weights an analysis of this one is made from."""
    return [spec, *([baseline_of(spec)] if ANALYSES[name].compares else [])]
