"""The local engine: a worker process a run, as many at a time as the machine has GPUs or cores for.

Processes are forked from a server that has imported torch once, so that starting a run takes a fraction of a second.
A run on the CPU always has one thread: two such runs on two cores finish more than one run on two threads, and the
result, which depends on the number of threads in the last digits, is the same whatever `jobs` is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.engines import gpus, slurm_jobs
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError, system_error
from cds_lib.study.processes import begin_as_child, fork_server, send_output_to
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

    def at_a_time(self, specs: Sequence[RunSpec], store: Store) -> int:
        """UsageError: a run needs more GPUs than there are, or Slurm has one of the runs; if Slurm cannot be asked,
        nobody knows."""
        fitting = default_jobs(self.processes)  # refuses too few GPUs, whatever `jobs` is
        with contextlib.suppress(RunError):
            found = slurm_jobs.alive(store)
            if ours := [found[spec.id] for spec in specs if spec.id in found]:
                raise UsageError(
                    f"Slurm has {len(ours)} of these runs queued or running: wait for them with --engine slurm, or "
                    f"cancel them with {slurm_jobs.cancel_command(ours)}."
                )
        return min(self.jobs or fitting, len(specs))

    def run(self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress) -> dict[str, str]:
        """Train the runs in order; returns {run id: sentence} of those that failed.

        On KeyboardInterrupt the running trainings are ended (each resumes from its last whole epoch); it is raised
        again.
        """
        standins = any(spec.budget.source == "standin" for spec in specs)  # made with scikit-learn, slow to import
        context = fork_server(["cds_lib.study.engines.execute", *(["sklearn.datasets"] if standins else [])])
        jobs, processes = min(self.jobs or default_jobs(self.processes), len(specs)), self.processes
        visible = gpus.visible()
        workers = max(1, cores() // (jobs * processes))  # that decode images, where a run needs them
        threads = workers if visible else 1
        sets = [",".join(visible[i : i + processes]) for i in range(0, len(visible) - processes + 1, processes)]
        waiting = list(specs)
        slots: dict[connection.Connection, _Slot] = {}  # by what they are heard through
        failed: dict[str, str] = {}
        try:
            while waiting or slots:
                while len(slots) < jobs and (spec := _next_ready(waiting, slots, store, progress, failed)):
                    number = min(set(range(jobs)) - {slot.number for slot in slots.values()})
                    own_gpus = sets[number % len(sets)] if sets else None
                    resources = Resources(processes, threads, workers, own_gpus, self.compile_method)
                    news, process = _start(context, spec, store, data_root, resources)
                    slots[news] = _Slot(spec, process, number)
                    progress.start(spec)
                for news in connection.wait(list(slots), timeout=1.0) if slots else ():
                    try:
                        kind, value = news.recv()
                    except (EOFError, OSError):  # the process has ended
                        news.close()
                        _end(slots.pop(news), store, progress, failed)
                        continue
                    if kind == "progress":
                        progress.advance(slots[news].spec, value)
                    else:
                        slots[news].outcome = kind, value
                progress.tick()
        except BaseException:
            for slot in slots.values():
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
    number: int
    outcome: tuple[str, Any] | None = None  # None until it says how it ended: ("done", metrics), ("failed", sentence)


def _next_ready(
    waiting: list[RunSpec], slots: dict[Any, _Slot], store: Store, progress: Progress, failed: dict[str, str]
) -> RunSpec | None:
    """Take the first waiting run whose parent is trained; give up those whose parent will not be."""
    coming = {spec.id for spec in waiting} | {slot.spec.id for slot in slots.values()}
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


def _start(
    context: Any, spec: RunSpec, store: Store, data_root: Path, resources: Resources
) -> tuple[connection.Connection, Any]:
    """A process that trains the run, and what it is heard through."""
    news, child_end = context.Pipe(duplex=False)
    arguments = (spec.to_dict(), str(store.root), str(data_root), resources, child_end)
    process = context.Process(target=work, args=arguments)  # not a daemon: those may not have workers of their own
    try:
        process.start()
    except (EOFError, ConnectionError):  # the server was killed in this instant: there is a new one by now
        process = context.Process(target=work, args=arguments)
        process.start()
    child_end.close()
    return news, process


def work(spec: dict[str, Any], results: str, data_root: str, resources: Resources, news: Any) -> None:
    """Train one run in this process, whose output goes to the run's log; send ("progress", epochs), then
    ("done", metrics) or ("failed", sentence)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    begin_as_child()
    if resources.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = resources.gpus
    # Torch is imported here, by the server that this process is forked from, and never in the one that waits.
    from cds_lib.study.engines.execute import execute

    run, store = RunSpec.from_dict(spec), Store(results)
    try:
        send_output_to(store.run_dir(run.id) / "log.txt")
        metrics = execute(run, store, Path(data_root), resources, lambda epochs: news.send(("progress", epochs)))
        news.send(("done", metrics))
    except (UsageError, RunError) as error:
        traceback.print_exc()
        news.send(("failed", str(error)))
    except OSError as error:
        news.send(("failed", system_error(error)))


def _end(slot: _Slot, store: Store, progress: Progress, failed: dict[str, str]) -> None:
    slot.process.join()
    run_id, outcome = slot.spec.id, slot.outcome
    if outcome is None and store.is_trained(run_id):
        outcome = "done", store.metrics(run_id)  # it died when all was done but the telling
    if outcome is None:
        code = slot.process.exitcode
        if code is not None and code < 0:
            why = f"(signal {-code}), perhaps for want of memory: try fewer jobs (--jobs)"
        else:
            why = f"(exit code {code}): see its log.txt and what was printed here"
        outcome = "failed", f"The training process died {why}."
        store.write_status(run_id, state="failed", error=outcome[1])
    kind, value = outcome
    if kind == "failed":
        failed[run_id] = value
    progress.finish(slot.spec, headline(value) if kind == "done" else f"FAILED: {value}")


def lacks_parent(spec: RunSpec) -> str:
    """Why a run whose parent left no weights is not trained, on any engine."""
    return f"It starts from run {spec.parent.id} ({spec.parent.label}), which has failed."


def headline(metrics: dict[str, float]) -> str:
    """The number that a progress line shows when a run has finished."""
    for name, key in (("top-1", "test_top1_last"), ("AP", "test_ap_last")):
        if key in metrics:
            return f"{name} {metrics[key]:.2f} %"
    return f"training loss {metrics['train_loss_last']:.3f}"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
