"""Computes the analyses that some tables lack, a process a run, as many at a time as there are GPUs or cores."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from cds_lib.study.analyses import Task, missing
from cds_lib.study.engines import gpus, local_engine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.processes import begin_as_child, fork_server
from cds_lib.study.protocols import Seeds
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.text import counted, duration


def compute_missing(
    tables: Iterable[Table], profile: str, seeds: Seeds, store: Store, data_root: Path, *, jobs: int = 0
) -> dict[str, str]:
    """Compute what the tables lack, a process a run; returns {run id, analysis: sentence} of the failures.

    Analyses whose runs have no weights here are named and left out. Nothing of a failure is kept: the next command
    tries again. `jobs` 0 fits the machine.
    """
    tasks, impossible = missing(tables, profile, seeds, store)
    if impossible:
        print(
            f"{_count(impossible)} cannot be computed: the weights (model.pt) of these runs are not here, as in a "
            "fresh clone. With --results and another folder they are trained there and analysed: "
            f"{', '.join(task.spec.id for task in impossible)}.",
            flush=True,
        )
    if not tasks:
        return {}
    store.open_for_writing()
    with store.lock():
        tasks, _ = missing(tables, profile, seeds, store)  # less what another command has computed meanwhile
        if not tasks:
            return {}
        jobs = min(jobs or local_engine.default_jobs(), len(tasks))
        progress = Progress(len(tasks), 0, jobs, store.root / "log.txt")
        progress.say(f"{_count(tasks)} to compute, {jobs} at a time")
        context = fork_server(["cds_lib.study.engines.analyse"])
        devices = gpus.visible()
        threads = max(1, local_engine.cores() // jobs) if devices else 1
        failed: dict[str, str] = {}
        with ProcessPoolExecutor(jobs, context, _begin, (context.Value("i", 0), devices, threads)) as pool:
            try:
                failed |= _compute(pool, tasks, store, data_root, progress)
            except BrokenProcessPool:
                why = "A process died, perhaps for want of memory: try fewer jobs (--jobs)."
                progress.say(f"The analyses stopped: {why} Those that are done are kept; the same command goes on.")
                failed["all that were left"] = why
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                progress.say("Stopped. Run the same command again to go on: analyses that are done are kept.")
                raise
    return failed


def _count(tasks: list[Task]) -> str:
    """`5 analyses of 2 runs`."""
    return f"{counted(sum(len(task.names) for task in tasks), 'analysis')} of {counted(len(tasks), 'run')}"


def _compute(
    pool: ProcessPoolExecutor, tasks: list[Task], store: Store, data_root: Path, progress: Progress
) -> dict[str, str]:
    """Compute tasks in any order, a line for each as it ends."""
    failed: dict[str, str] = {}
    waiting: dict[Future, Task] = {}
    for task in tasks:
        future = pool.submit(_work, task.spec.to_dict(), task.names, str(store.root), str(data_root))
        waiting[future] = task
    for future in as_completed(waiting):
        task = waiting[future]
        seconds, faults = future.result()
        done = [name for name in task.names if name not in faults]
        texts = [f"{', '.join(done)} in {duration(seconds)}"] if done else []
        texts += [f"{name} FAILED: {why}" for name, why in faults.items()]
        progress.count(f"analysis of {task.spec.label}: {'; '.join(texts)}")
        failed |= {f"{task.spec.id}, {name}": why for name, why in faults.items()}
    return failed


def _begin(counter: Any, gpus: list[str], threads: int) -> None:
    """Runs first in every worker process: it gets its GPU, if there are any, and its number of threads."""
    begin_as_child()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing of an analysis is kept, and nobody waits for its traceback
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    import torch  # by the server that this process is forked from

    torch.set_num_threads(threads)


def _work(spec: dict[str, Any], names: tuple[str, ...], results: str, data_root: str) -> tuple[float, dict[str, str]]:
    """Runs in a worker process: seconds, and {analysis: sentence} of the failures."""
    from cds_lib.study.engines.analyse import analyse

    began = time.monotonic()
    faults = analyse(RunSpec.from_dict(spec), names, Store(results), Path(data_root))
    return time.monotonic() - began, faults
