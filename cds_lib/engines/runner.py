"""From tables to trained runs: what is done, what is missing, train the missing through an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cds_lib.engines import local_engine, slurm_jobs
from cds_lib.engines.progress import Progress
from cds_lib.errors import RunError, UsageError
from cds_lib.study.profiles import Seeds
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.text import counted, duration

_STOPPED = "Stopped. Run the same command again to go on: finished runs are kept, started ones resume."


@dataclass(frozen=True)
class Plan:
    """The union of the runs of some tables, each once, by state; `again`: missing ones that were finished, but whose
    weights, which others start from, are not here."""

    done: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    failed: tuple[RunSpec, ...]
    again: int = 0

    @property
    def total(self) -> int:
        return len(self.done) + len(self.missing) + len(self.failed)

    def describe(self) -> str:
        """One line: how many runs, how many of them done, missing, failed before."""
        again = f" ({self.again} of them again, for weights that others start from)" if self.again else ""
        failed = f", {len(self.failed)} failed before (--retry-failed tries them again)" if self.failed else ""
        return f"{counted(self.total, 'run')}: {len(self.done)} done, {len(self.missing)} to train{again}{failed}"


def make_plan(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store, retry_failed: bool) -> Plan:
    """Sort the runs of the tables by state; a run that failed is missing again if `retry_failed`.

    So is a finished run that a missing one starts from if its weights are not there, as in a fresh clone. RunError: a
    finished run is damaged, which is better said now than after the others were trained.
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


def train_missing(
    plan: Plan,
    store: Store,
    data_root: Path,
    *,
    jobs: int = 0,
    processes: int = 1,
    compile_method: bool = False,
    slurm: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Train what the plan misses; returns {run id: sentence} of the failures.

    `jobs` runs at a time (0: what fits the machine), each spread over `processes`. With `slurm`, the options of the
    jobs, the runs are trained by Slurm.

    Runs whose data set is missing or damaged are among the failures, one sentence a set, before the first run starts;
    the others are trained. They leave no trace and are tried again by the next command.

    Raises:
        UsageError: no run has its data, the results folder is not writable or in use, a run needs more GPUs than there
            are, `jobs` is negative.
    """
    if jobs < 0:
        raise UsageError(f"--jobs must be 1 or more, not {jobs}.")
    if not plan.missing:
        return {}
    if slurm is None:
        fitting = local_engine.default_jobs(processes)
        jobs = min(jobs or fitting, len(plan.missing))
    store.open_for_writing()
    with contextlib.ExitStack() as held:
        held.enter_context(store.lock())
        if slurm is None:
            _refuse_what_slurm_trains(plan, store)
        at_a_time = jobs if slurm is None else 0  # Slurm decides
        progress = Progress(plan.total, len(plan.done) + len(plan.failed), at_a_time, store.root / "log.txt")
        where = f"{jobs} at a time" if slurm is None else "through Slurm"
        progress.say(f"{plan.describe()}, {where}; each run's own log is in {store.root / 'runs'}/<id>/log.txt")
        without = _without_data(plan.missing, data_root)
        if len(without) == len(plan.missing):
            raise UsageError(next(iter(without.values())))
        for reason in dict.fromkeys(without.values()):
            progress.say(f"{counted(list(without.values()).count(reason), 'run')} cannot be trained: {reason}")
        specs = [spec for spec in plan.missing if spec.id not in without]
        progress.leave_out(len(without))
        how: dict[str, Any] = {"jobs": jobs, "progress": progress, "processes": processes}
        how["compile_method"] = compile_method
        try:
            if slurm is None:
                failed = local_engine.run(specs, store, data_root, **how)
            else:
                from cds_lib.engines import slurm_engine  # with submitit, which nothing else needs

                # Jobs need no submitter: once they are submitted the store is free, so that others may wait for them.
                failed = slurm_engine.run(specs, store, data_root, **how, options=slurm, submitted=held.close)
        except KeyboardInterrupt:
            progress.say(_STOPPED if slurm is None else slurm_jobs.how_to_go_on(store))
            raise
        spent = sum(store.metric(spec.id, "seconds") for spec in plan.missing if store.is_done(spec.id))
        lacking = f", {len(without)} lacked their data" if without else ""
        progress.say(
            f"Trained {counted(len(specs) - len(failed), 'run')}, {len(failed)} failed{lacking}; "
            f"{duration(spent)} of training."
        )
    return without | failed


def _refuse_what_slurm_trains(plan: Plan, store: Store) -> None:
    """UsageError if a run that is to be trained here is in Slurm's queue; if Slurm cannot be asked, nobody knows."""
    with contextlib.suppress(RunError):
        found = slurm_jobs.alive(store)
        ours = [found[spec.id] for spec in plan.missing if spec.id in found]
        if ours:
            raise UsageError(
                f"Slurm has {len(ours)} of these runs queued or running: wait for them with --engine slurm, or "
                f"cancel them with {slurm_jobs.cancel_command(ours)}."
            )


def _without_data(specs: Iterable[RunSpec], data_root: Path) -> dict[str, str]:
    """{run id: sentence} of the runs whose data set, or that of a run they start from, is missing or damaged.

    Every real data set is read once here, so that a fault is one sentence and not one a run. Small images are decoded
    here, once, into the arrays that the runs map.
    """
    faults: dict[tuple[str, str | int], str | None] = {}
    without: dict[str, str] = {}
    for spec in specs:  # parents come before their children
        reader = _reader(spec)
        if spec.budget.source == "real" and (spec.dataset, reader) not in faults:
            try:
                _read(spec.dataset, reader, data_root)
                faults[spec.dataset, reader] = None
            except UsageError as error:
                faults[spec.dataset, reader] = str(error)
        reason = faults.get((spec.dataset, reader)) if spec.budget.source == "real" else None
        reason = reason or (without.get(spec.parent.id) if spec.parent else None)
        if reason:
            without[spec.id] = reason
    return without


def _read(dataset: str, reader: str | int, data_root: Path) -> None:
    from cds_lib.data import coco, registry, sets

    if reader == "coco":
        coco.load(data_root, "real")
    elif reader == "files":
        sets.load_files(dataset, data_root)
    elif reader == "cifar":
        sets.load_real(registry.entry(dataset), data_root)
    else:
        sets.load(dataset, data_root, "real", reader)


def _reader(spec: RunSpec) -> str | int:
    """How a run reads its data set: as detection data, as files, as the CIFAR batches, or as arrays of this side."""
    if spec.setting == "detect":
        return "coco"
    if spec.budget.streamed:
        return "files"
    return "cifar" if spec.budget.augmentation is None else spec.budget.stored_size
