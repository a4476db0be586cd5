"""The command `train`: a run of the study with other options, in a results folder of its own."""

from __future__ import annotations

import argparse
import ast
import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cds_lib.errors import UsageError
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.data.registry import data_root
from cds_lib.study.engines import runner
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.errors import RunError
from cds_lib.study.plan import catalogue, protocols, settings
from cds_lib.study.plan.spec import Budget, RunSpec
from cds_lib.study.plan.table import Cell, Table, cell
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "Sequence": list, "tuple": tuple}


def train_one(options: argparse.Namespace) -> int:
    """`train`: return 0 when the run is finished. UsageError: unknown names or options, no data. RunError: the training
    failed."""
    import pandas as pd

    profile, (seed,) = options.profile, protocols.parse_seeds(str(options.seed))
    table, cell = find(profile, options.dataset, options.model, options.method, options.setting)
    store = Store(results_dir(profile, options.results).absolute()) if options.results else own_store()
    root = data_root(options.data_root).absolute()
    mine = train(table, cell, profile, seed, parse(options.set), store, root, LocalEngine())
    theirs = beside(table, cell, profile, seed, Store(results_dir(profile)))
    shown = pd.concat([mine, theirs])[["method", "value", "best", "seconds", "run"]]
    print(f"Seed {seed}, {cell.metric}; yours first, which is in {store.run_dir(mine['run'].iloc[0])}:")
    print(shown.to_string(index=False, float_format="{:.2f}".format))
    return 0


def own_store() -> Store:
    """Return the default folder of a user's own runs."""
    return Store(CHECKOUT / "results" / "mine")


def find(profile: str, dataset: str, model: str, method: str, setting: str = "") -> tuple[Table, Cell]:
    """Return the first table that has such a run, and its cell. A possible run that is in no table gets a table of its
    own. UsageError: unknown names, or no such run."""
    protocols.check_profile(profile)
    wanted = (dataset, model, method)
    for table in TABLES.values():
        for found in table.cells(profile, None) if not table.own_seeds else ():
            if (found.dataset, found.model, found.method) == wanted and setting in ("", found.setting):
                return table, found
    family = catalogue.family_of(dataset)
    catalogue.method(method)
    catalogue.mini_width(model)
    build = None
    if family in ("cifar", "imagenet") and not setting:
        if method in catalogue.DEEP_SUPERVISION:
            build = settings.supervised
        elif method in catalogue.DISTILLATION and model in settings.TEACHERS:
            build = settings.distilled
    if build is None:
        of = f" in the setting {setting!r}" if setting else ""
        raise UsageError(f"No table trains {model} with {method} on {dataset}{of}: run-all --list shows what there is.")
    found = cell(build(profile, dataset, model, method), (0,), reference=None)
    return Table("Own", "", lambda profile: [found]), found


def parse(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ["taps=1,2,3"] into {"taps": (1, 2, 3)}. A value is a Python literal, else text. UsageError: no pair."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise UsageError(f"--set wants NAME=VALUE, such as weight=1, not {assignment!r}.")
        try:
            changes[name.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            changes[name.strip()] = text.strip()
    return changes


def changed(spec: RunSpec, changes: Mapping[str, Any]) -> RunSpec:
    """Return the run with other options of its method or budget. UsageError: neither has such an option, or the value
    has another type."""
    entry = catalogue.method(spec.method)
    budget = {field.name: str(field.type) for field in fields(Budget)}
    parameters = inspect.signature(entry.load()).parameters.items()
    own = {name: inspect.formatannotation(one.annotation).removeprefix("collections.abc.") for name, one in parameters}
    own |= {name: type(value).__name__ for name, value in spec.options.items() if name not in own}
    taken = {"backbone", "num_classes", "teacher", *entry.fixed, *budget}
    own = {name: kind for name, kind in own.items() if name not in taken and any(word in kind for word in _TYPES)}
    options, more = dict(spec.options), {}
    for name, value in changes.items():
        if name not in own and name not in budget:
            raise UsageError(
                f"{spec.method} has no option {name!r}: choose from {', '.join(own)}, or of the budget from "
                f"{', '.join(budget)}."
            )
        (more if name in budget else options)[name] = _fitting(name, value, budget.get(name) or own[name])
    if min(more.get("epochs", 1), more.get("eval_every", 1)) < 1:
        raise UsageError("epochs and eval_every must be 1 or more.")
    if (more.get("val_seed") or 0) < 0:
        raise UsageError("val_seed must be 0 or more.")
    return replace(spec, options=options, budget=replace(spec.budget, **more))


def _fitting(name: str, value: Any, kind: str) -> Any:
    """Convert the value to the annotation `kind`: 1 becomes 1.0 for "float | None", and [1] or (1,) for a sequence."""
    types = tuple(known for word, known in _TYPES.items() if word in kind.replace("tuple[int, ...]", "tuple"))
    if list in types or tuple in types:
        as_one = list if list in types else tuple
        value = as_one(value if isinstance(value, list | tuple) else [] if value is None else [value]) or None
        types = (as_one,) if all(type(item) is int for item in value or ()) else ()
    elif float in types and type(value) is int:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, not {value!r}.")
    if type(value) not in types and not (value is None and "None" in kind):
        raise UsageError(f"{name} is {kind}, not {value!r}.")
    return value


def train(
    table: Table,
    cell: Cell,
    profile: str,
    seed: int,
    changes: Mapping[str, Any],
    store: Store,
    data_root: Path,
    engine: runner.Engine,
) -> pd.DataFrame:
    """Train the cell's run with this seed and other options, after the runs it starts from. Return its row of
    `cds_lib.study.report.frame.results`, whose method says what was changed. A finished run is only read.
    UsageError: an option that it does not have, no data. RunError: the training failed."""
    from cds_lib.study.report.frame import results

    spec = changed(cell.run.with_seed(seed), changes)
    now = {**spec.options, **asdict(spec.budget)}
    said = ", ".join(f"{name} {now[name]}" for name in changes)
    own = replace(cell, run=spec, seeds=(seed,), method=f"{cell.method}, {said or 'again'}")
    alone = replace(table, build=lambda _: [own])
    plan = runner.make_plan([alone], profile, None, store, retry_failed=True)
    if failed := runner.train_missing(plan, store, data_root, engine):
        raise RunError(next(iter(failed.values())))
    return results(alone, profile, None, store)


def beside(table: Table, cell: Cell, profile: str, seed: int, store: Store) -> pd.DataFrame:
    """Return the study's finished runs with the same data set, network, setting and seed, as rows of `results`."""
    from cds_lib.study.report.frame import results

    place = attrgetter("dataset", "model", "setting", "metric")
    cells = [replace(other, seeds=(seed,)) for other in table.cells(profile, None) if place(other) == place(cell)]
    frame = results(replace(table, build=lambda _: cells), profile, None, store)
    return frame[frame["finished"]]
