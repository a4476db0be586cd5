"""Many small runs: those of the first notebook's kind, two at a time against one at a time, each on one thread.

Whole runs through the local engine, as `--jobs 2` and `--jobs 1` make them: a process each, synthetic data, training,
evaluation, files. The server that the processes are forked from is there already. On two idle cores or more, half the
time would be ideal.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cds_lib.errors import RunError
from cds_lib.study.bench.timing import Row, interleaved
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

RUNS = 2


def specs(runs: int) -> list[RunSpec]:
    """Short runs that differ in their seed."""
    run = TABLES["00_start_here"].runs("smoke", None)[1]
    run = replace(run, budget=replace(run.budget, epochs=2, eval_every=2))
    return [run.with_seed(seed) for seed in range(runs)]


def rows(rounds: int) -> Iterator[Row]:
    """One row."""
    some = specs(RUNS)
    yield Row(
        "jobs", f"{RUNS} runs, two at a time", *interleaved(lambda: train(some, 2), lambda: train(some, 1), rounds)
    )


def train(some: list[RunSpec], jobs: int) -> None:
    """All runs, in a results folder of their own; RunError if one fails."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        store = Store(folder)
        store.open_for_writing()
        failed = LocalEngine(jobs).run(some, store, Path(folder), Progress(len(some), 0, jobs))
        if failed:
            raise RunError(f"A run of the benchmark failed: {next(iter(failed.values()))}")
