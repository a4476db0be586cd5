"""From tables to trained runs: find what is done and what is missing, and train the missing runs through an engine."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cds_lib.errors import UsageError
from cds_lib.study.data import registry
from cds_lib.study.engines.progress import Progress
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Table
from cds_lib.study.store import Store
from cds_lib.study.text import counted, duration


class Engine(Protocol):
    """Where runs are trained. A new engine is one more class of this shape, which the commands make from options."""

    def run(
        self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress, release: Callable[[], None]
    ) -> dict[str, str]:
        """Train the runs, parents before their children; return {run id: sentence} for those that were not trained.

        The caller holds the store's lock, so that no other command trains the same runs. An engine calls `release` to
        free it once the runs go on without this process. On KeyboardInterrupt it says how to go on, and raises it
        again. UsageError if the runs cannot be trained here now.
        """


@dataclass(frozen=True)
class Plan:
    """The runs of some tables, each once, by state. again: how many of the missing runs are finished, but are trained
    again because others start from their weights, which are not here."""

    done: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    failed: tuple[RunSpec, ...]
    again: int = 0

    @property
    def total(self) -> int:
        return len(self.done) + len(self.missing) + len(self.failed)

    def describe(self) -> str:
        """Say in one line how many runs there are, and how many are done, missing or failed before."""
        again = f" ({self.again} of them again, for weights that others start from)" if self.again else ""
        failed = f", {len(self.failed)} failed before (--retry-failed tries them again)" if self.failed else ""
        return f"{counted(self.total, 'run')}: {len(self.done)} done, {len(self.missing)} to train{again}{failed}"


def make_plan(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store, retry_failed: bool) -> Plan:
    """Sort the runs of the tables by state; with `retry_failed`, failed runs count as missing.

    A finished run also counts as missing if a missing run starts from it and its weights are not there, as in a fresh
    clone. RunError: a finished run is damaged. This is raised now, not after the others were trained.
    """
    specs = {spec.id: spec for table in tables for spec in table.runs(profile, seeds)}
    done, missing, failed = [], [], []
    wanted: set[str] = set()  # runs whose weights a missing run starts from
    for run_id, spec in reversed(specs.items()):  # children before their parents
        if store.is_done(run_id) and (run_id not in wanted or store.model(run_id).exists()):
            store.metrics(run_id)
            done.insert(0, spec)
        elif not retry_failed and store.status(run_id).get("state") == "failed":
            failed.insert(0, spec)
        else:
            missing.insert(0, spec)
            wanted |= {spec.parent.id} if spec.parent else set()
    again = sum(store.is_done(spec.id) for spec in missing)
    return Plan(tuple(done), tuple(missing), tuple(failed), again)


def train_missing(plan: Plan, store: Store, data_root: Path, engine: Engine) -> dict[str, str]:
    """Train the missing runs of the plan through the engine; return {run id: sentence} for the failures.

    Runs whose data set is missing, damaged or too small are failures, reported in one sentence per set before the first
    run starts; the others are trained. They leave no trace, and the next command tries them again. UsageError: no run
    has its data, the results folder is not writable, the engine refuses.
    """
    if not plan.missing:
        return {}
    store.open_for_writing()
    with contextlib.ExitStack() as held:
        held.enter_context(store.lock())
        since = [spec for spec in plan.missing if store.is_trained(spec.id)]  # trained by another command meanwhile
        missing = tuple(spec for spec in plan.missing if spec not in since)
        if not missing:
            return {}
        again = sum(store.is_done(spec.id) for spec in missing)
        plan = replace(plan, done=(*plan.done, *since), missing=missing, again=again)
        progress = Progress(plan.total, len(plan.done) + len(plan.failed), store.root / "log.txt")
        progress.say(f"{plan.describe()}.")
        without = _without_data(plan.missing, data_root)
        if len(without) == len(plan.missing):
            raise UsageError(next(iter(without.values())))
        for reason in dict.fromkeys(without.values()):
            progress.say(f"{counted(list(without.values()).count(reason), 'run')} cannot be trained: {reason}")
        progress.total -= len(without)
        specs = [spec for spec in plan.missing if spec.id not in without]
        failed = engine.run(specs, store, data_root, progress, held.close)
    spent = sum(store.metric(spec.id, "seconds") for spec in plan.missing if store.is_done(spec.id))
    lacking = f", {len(without)} lacked their data" if without else ""
    progress.say(
        f"Trained {counted(len(specs) - len(failed), 'run')}, {len(failed)} failed{lacking}; "
        f"{duration(spent)} of training."
    )
    progress.bar.close()
    return without | failed


def _without_data(specs: Iterable[RunSpec], data_root: Path) -> dict[str, str]:
    """Return {run id: sentence} for the runs whose data, or that of a run they start from, is missing, damaged or too
    small.

    Every real data set is read once here, so that a fault is one sentence and not one per run. Small images are decoded
    here, once, into the arrays that the runs map into memory.
    """
    from cds_lib.study.engines import split  # it imports NumPy and Pillow, which `--help` does not need

    specs = list(specs)
    groups: dict[tuple, list[RunSpec]] = {}  # by what they read, and how
    for spec in specs:
        if spec.budget.source == "real":
            size = None if spec.budget.streamed else spec.budget.stored_size
            groups.setdefault((spec.dataset, spec.detects, size), []).append(spec)
    without: dict[str, str] = {}
    for (dataset, detects, _), group in groups.items():
        try:
            data = split.load(group[0], data_root)
        except UsageError as error:
            without |= dict.fromkeys([spec.id for spec in group], str(error))
        else:
            if not detects:
                without |= split.too_small(group, data.train_labels, registry.entry(dataset).title)
    for spec in specs:  # parents come before their children
        if spec.parent and spec.parent.id in without:
            without.setdefault(spec.id, without[spec.parent.id])
    return without
