"""The local engine: a worker process a run, as many at a time as the machine has GPUs or cores for.

Processes are forked from a server that has imported torch once, so that starting a run takes a fraction of a second.
A run on the CPU always has one thread: two such runs on two cores finish more than one run on two threads, and the
result, which depends on the number of threads in the last digits, is the same whatever `jobs` is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.engines import gpus, slurm_jobs
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.resources import Resources
from cds_lib.study.errors import RunError
from cds_lib.study.processes import fork_server
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store


@dataclass(frozen=True)
class LocalEngine:
    """Trains on this machine.

    Args:
        jobs: runs at a time, 0 for what fits the machine.
        processes: that each run is spread over.
        compile_method: torch.compile the training step.
    """

    jobs: int = 0
    processes: int = 1
    compile_method: bool = False

    def at_a_time(self, runs: int) -> int:
        """UsageError: `jobs` is negative, or a run needs more GPUs than there are."""
        if self.jobs < 0:
            raise UsageError(f"--jobs must be 1 or more, not {self.jobs}.")
        fitting = default_jobs(self.processes)  # refuses too few GPUs, whatever `jobs` is
        return min(self.jobs or fitting, runs)

    def refuse(self, specs: Sequence[RunSpec], store: Store) -> None:
        """UsageError if one of the runs is in Slurm's queue; if Slurm cannot be asked, nobody knows."""
        with contextlib.suppress(RunError):
            found = slurm_jobs.alive(store)
            ours = [found[spec.id] for spec in specs if spec.id in found]
            if ours:
                raise UsageError(
                    f"Slurm has {len(ours)} of these runs queued or running: wait for them with --engine slurm, or "
                    f"cancel them with {slurm_jobs.cancel_command(ours)}."
                )

    def where(self, at_a_time: int) -> str:
        """The number says it."""
        return f"{at_a_time} at a time"

    def run(self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress) -> dict[str, str]:
        """Train the runs in order; returns {run id: sentence} of those that failed.

        On KeyboardInterrupt the running trainings are ended (each resumes from its last whole epoch); it is raised
        again.
        """
        standins = any(spec.budget.source == "standin" for spec in specs)  # made with scikit-learn, slow to import
        context = fork_server(["cds_lib.study.engines.worker", *(["sklearn.datasets"] if standins else [])])
        jobs, processes = self.at_a_time(len(specs)), self.processes
        visible = gpus.visible()
        workers = max(1, cores() // (jobs * processes))  # that decode images, where a run needs them
        threads = workers if visible else 1
        sets = [",".join(visible[i : i + processes]) for i in range(0, len(visible) - processes + 1, processes)]
        waiting = list(specs)
        slots: list[_Slot] = []
        failed: dict[str, str] = {}
        try:
            while waiting or slots:
                while len(slots) < jobs and (spec := _next_ready(waiting, slots, store, progress, failed)):
                    number = min(set(range(jobs)) - {slot.number for slot in slots})
                    own_gpus = sets[number % len(sets)] if sets else None
                    resources = Resources(processes, threads, workers, own_gpus, self.compile_method)
                    slots.append(_start(context, spec, store, data_root, number, resources))
                    progress.start(spec)
                if not slots:
                    continue  # what waited was given up, because the run it starts from has failed
                connection.wait([s.news for s in slots] + [s.process.sentinel for s in slots], timeout=1.0)
                progress.tick()
                for slot in list(slots):
                    _read_news(slot, store, progress)
                    if not slot.process.is_alive():
                        _read_news(slot, store, progress)
                        _end(slot, store, progress, failed)
                        slots.remove(slot)
        except BaseException:
            for slot in slots:
                slot.process.kill()
                slot.process.join()
            raise
        return failed

    def wait(self, specs: Sequence[RunSpec], store: Store, progress: Progress) -> dict[str, str]:
        """Nothing: when `run` returns, all have ended."""
        return {}

    def how_to_go_on(self, store: Store) -> str:
        """The trainings were stopped, too."""
        return "Stopped. Run the same command again to go on: finished runs are kept, started ones resume."

    @property
    def jobs_here(self) -> int:
        """As many as runs."""
        return self.jobs


def default_jobs(processes: int = 1) -> int:
    """Runs at a time, of so many processes: as the GPUs suffice for, else the cores this process may use.

    Raises:
        UsageError: the machine has GPUs, but fewer than one run needs.
    """
    return max(1, (gpus.check(processes) or cores()) // processes)


@dataclass
class _Slot:
    spec: RunSpec
    process: Any
    news: connection.Connection
    number: int
    outcome: str | None = None  # None until it says how it ended; "" when done, else the sentence of the failure


def _next_ready(
    waiting: list[RunSpec], slots: list[_Slot], store: Store, progress: Progress, failed: dict[str, str]
) -> RunSpec | None:
    """Take the first waiting run whose parent is trained; give up those whose parent will not be."""
    coming = {spec.id for spec in waiting} | {slot.spec.id for slot in slots}
    for spec in list(waiting):
        if spec.parent is None or store.is_trained(spec.parent.id):
            waiting.remove(spec)
            return spec
        if spec.parent.id not in coming:
            waiting.remove(spec)
            coming.discard(spec.id)
            failed[spec.id] = lacks_parent(spec)
            progress.skip(spec, failed[spec.id])
    return None


def lacks_parent(spec: RunSpec) -> str:
    """Why a run whose parent left no weights is not trained, on any engine."""
    return f"It starts from run {spec.parent.id} ({spec.parent.label}), which has failed."


def _start(context: Any, spec: RunSpec, store: Store, data_root: Path, number: int, resources: Resources) -> _Slot:
    news, child_end = context.Pipe(duplex=False)
    arguments = (spec.to_dict(), str(store.root), str(data_root), resources, child_end)
    process = context.Process(target=_work, args=arguments)  # not a daemon: those may not have workers of their own
    try:
        process.start()
    except (EOFError, ConnectionError):  # the server was killed in this instant: there is a new one by now
        process = context.Process(target=_work, args=arguments)
        process.start()
    child_end.close()
    return _Slot(spec, process, news, number)


def _work(*arguments: Any) -> None:
    """Runs in the worker process. Torch is imported there, by the server it is forked from, and never in this one."""
    from cds_lib.study.engines.worker import work

    work(*arguments)


def _read_news(slot: _Slot, store: Store, progress: Progress) -> None:
    try:
        while slot.news.poll():
            kind, value = slot.news.recv()
            if kind == "progress":
                progress.advance(slot.spec, value)
            elif kind == "done":
                slot.outcome = ""
                progress.finish(slot.spec, headline(value))
            else:
                slot.outcome = value
    except (EOFError, OSError):
        pass  # the process has closed its end; how it ended is for `_end` to say


def headline(metrics: dict[str, float]) -> str:
    """The number that a progress line shows when a run has finished."""
    for name, key in (("top-1", "test_top1_last"), ("AP", "test_ap_last")):
        if key in metrics:
            return f"{name} {metrics[key]:.2f} %"
    return f"training loss {metrics['train_loss_last']:.3f}"


def _end(slot: _Slot, store: Store, progress: Progress, failed: dict[str, str]) -> None:
    slot.process.join()
    slot.news.close()
    if slot.outcome is None and store.is_trained(slot.spec.id):
        slot.outcome = ""  # it died when all was done but the telling
        progress.finish(slot.spec, headline(store.metrics(slot.spec.id)))
    if slot.outcome is None:
        code = slot.process.exitcode
        if code is not None and code < 0:
            why = f"(signal {-code}), perhaps for want of memory: try fewer jobs (--jobs)"
        else:
            why = f"(exit code {code}): see its log.txt and what was printed here"
        slot.outcome = f"The training process died {why}."
        store.write_status(slot.spec.id, state="failed", error=slot.outcome)
    if slot.outcome:
        failed[slot.spec.id] = slot.outcome
        progress.finish(slot.spec, f"FAILED: {slot.outcome}")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
