"""Compute the missing analyses of tables, one process per run, as many at a time as there are GPUs or cores."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cds_lib.study.analyses import Task, missing
from cds_lib.study.engines import gpus
from cds_lib.study.engines.local_engine import cores, default_jobs, own_gpus
from cds_lib.study.engines.progress import Progress
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table
from cds_lib.study.processes import Worker, fork_server, work_off
from cds_lib.study.store import Store
from cds_lib.study.text import counted, duration

PRELOAD = ["cds_lib.study.engines.analyse"]


def compute_missing(
    tables: Iterable[Table], profile: str, seeds: Seeds, store: Store, data_root: Path, *, jobs: int = 0
) -> dict[str, str]:
    """Compute what the tables lack, one process per run; return {run id, analysis: sentence} for the failures.

    Analyses of runs without weights here are named and left out. A failure leaves nothing behind: the next command
    tries again. `jobs`: runs at a time, 0 for as many as fit the machine.
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
        tasks, _ = missing(tables, profile, seeds, store)  # without what another command has computed meanwhile
        if not tasks:
            return {}
        jobs = min(default_jobs(wanted=jobs), len(tasks))
        progress = Progress(len(tasks), 0, store.root / "log.txt")
        progress.say(f"{_count(tasks)} to compute, {jobs} at a time")
        context = fork_server(PRELOAD)
        devices = gpus.visible()
        threads = max(1, cores() // jobs) if devices else 1

        def start(task: Task, number: int) -> Worker:
            log = store.run_dir(task.spec.id) / "log.txt"
            variables = own_gpus(devices, number)
            return Worker(context, _analyse, task, store, data_root, threads, variables=variables, log=log)

        waiting = iter(tasks)
        failed: dict[str, str] = {}
        try:
            for task, kind, value in work_off(lambda: next(waiting, None), start, jobs):
                if kind == "begun":
                    continue
                seconds, faults = value if kind == "done" else (0.0, dict.fromkeys(task.names, value))
                done = [name for name in task.names if name not in faults]
                texts = [f"{', '.join(done)} in {duration(seconds)}"] if done else []
                texts += [f"{name} FAILED: {why}" for name, why in faults.items()]
                progress.count(f"analysis of {task.spec.label}: {'; '.join(texts)}")
                failed |= {f"{task.spec.id}, {name}": why for name, why in faults.items()}
        except KeyboardInterrupt:
            progress.say("Stopped. Run the same command again to go on: analyses that are done are kept.")
            raise
        progress.bar.close()
    return failed


def _count(tasks: list[Task]) -> str:
    """Format a count: `5 analyses of 2 runs`."""
    return f"{counted(sum(len(task.names) for task in tasks), 'analysis')} of {counted(len(tasks), 'run')}"


def _analyse(
    say: Callable[[float], None], task: Task, store: Store, data_root: Path, threads: int
) -> tuple[float, dict[str, str]]:
    """Run in a worker process; return its seconds, and {analysis: sentence} for the failures."""
    import torch  # already imported by the fork server

    from cds_lib.study.engines.analyse import analyse

    torch.set_num_threads(threads)
    began = time.monotonic()
    faults = analyse(task.spec, task.names, store, data_root)
    return time.monotonic() - began, faults
