"""The local engine: one worker process per run, as many at a time as the machine has GPUs or cores for.

A run on the CPU always has one thread. On two cores, two such runs at once finish more than one run on two threads. A
result depends on the number of threads in its last digits, so this also makes it the same whatever `jobs` is.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.engines import gpus, slurm_jobs
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.processes import Worker, fork_server, work_off
from cds_lib.study.store import Store

# Imports of the runs; scikit-learn makes the stand-ins.
PRELOAD = ["cds_lib.study.engines.execute", "sklearn.datasets"]


@dataclass(frozen=True)
class LocalEngine:
    """Trains on this machine.

    Args:
        jobs: runs at a time, 0 for as many as fit the machine.
        processes: processes per run.
        compile_method: torch.compile the training step.
    """

    jobs: int = 0
    processes: int = 1
    compile_method: bool = False

    def run(
        self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress, release: Callable[[], None]
    ) -> dict[str, str]:
        """See `runner.Engine`. UsageError: a run needs more GPUs than there are, or Slurm has one of the runs. The
        latter is not checked if Slurm does not answer."""
        jobs = min(default_jobs(self.processes, self.jobs), len(specs))
        with contextlib.suppress(RunError):  # Slurm does not answer: not checked
            found = slurm_jobs.alive(store)
            if theirs := [found[spec.id] for spec in specs if spec.id in found]:
                raise UsageError(
                    f"Slurm has {len(theirs)} of these runs queued or running: wait for them with --engine slurm, or "
                    f"cancel them with {slurm_jobs.cancel_command(theirs)}."
                )
        progress.say(f"{jobs} at a time; each run's own log is in {store.root / 'runs'}/<id>/log.txt")
        detect = ["cds_lib.evaluation.detection"] if any(spec.detects for spec in specs) else []  # torchmetrics is slow
        context = fork_server(PRELOAD + detect)
        devices = gpus.visible()
        each = max(1, cores() // (jobs * self.processes))
        resources = Resources(self.processes, each if devices else 1, each, self.compile_method)
        waiting, unfinished = list(specs), {spec.id for spec in specs}
        failed: dict[str, str] = {}

        def take() -> RunSpec | None:
            """Return the first run whose parent is trained; give up runs whose parent will not be trained."""
            for spec in list(waiting):  # parents come before their children
                if spec.parent is None or store.is_trained(spec.parent.id):
                    waiting.remove(spec)
                    return spec
                if spec.parent.id not in unfinished:
                    waiting.remove(spec)
                    unfinished.discard(spec.id)
                    failed[spec.id] = lacks_parent(spec)
                    progress.skip(spec, failed[spec.id])
            return None

        def start(spec: RunSpec, number: int) -> Worker:
            variables = own_gpus(devices, number, self.processes)
            log = store.run_dir(spec.id) / "log.txt"
            return Worker(context, _train, spec, store, data_root, resources, variables=variables, log=log)

        try:
            for spec, kind, value in work_off(take, start, jobs):
                if kind in ("begun", "progress"):
                    progress.advance(spec, value or 0.0)
                else:
                    unfinished.discard(spec.id)
                    if not store.is_trained(spec.id):  # else it died after training, before reporting
                        failed[spec.id] = value
                        if kind == "died":
                            store.write_status(spec.id, state="failed", error=value)
                    progress.finish(spec, outcome(spec, store, failed.get(spec.id)))
        except KeyboardInterrupt:
            progress.say("Stopped. Run the same command again to go on: finished runs are kept, started ones resume.")
            raise
        return failed


def _train(say: Callable[[float], None], spec: RunSpec, store: Store, data_root: Path, resources: Resources) -> None:
    # Torch is imported in the fork server and so in this process, but never in the process that waits.
    from cds_lib.study.engines.execute import execute

    execute(spec, store, data_root, resources, say)


def lacks_parent(spec: RunSpec) -> str:
    """Say why a run whose parent left no weights is not trained, on any engine."""
    return f"It starts from run {spec.parent.id} ({spec.parent.label}), which has failed."


def outcome(spec: RunSpec, store: Store, failure: str | None) -> str:
    """Return what the progress line of an ended run says: why it failed, or its headline number."""
    if failure:
        return f"FAILED: {failure}"
    metrics = store.metrics(spec.id)
    for name, key in (("top-1", "test_top1_last"), ("AP", "test_ap_last")):
        if key in metrics:
            return f"{name} {metrics[key]:.2f} %"
    return f"training loss {metrics['train_loss_last']:.3f}"


def default_jobs(processes: int = 1, wanted: int = 0) -> int:
    """Return the number of runs at a time, of `processes` processes each: `wanted`, or what fits the GPUs or else the
    cores. UsageError: the machine has GPUs, but fewer than one run needs."""
    fitting = max(1, (gpus.check(processes) or cores()) // processes)
    return wanted or fitting


def own_gpus(devices: Sequence[str], number: int, processes: int = 1) -> dict[str, str]:
    """Return the environment variable that gives worker `number` its GPUs out of `devices`; {} if there are none."""
    if not devices:
        return {}
    first = number % (len(devices) // processes) * processes
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + processes])}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
