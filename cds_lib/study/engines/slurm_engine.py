"""The Slurm engine: array jobs through submitit, which go on without the process that submitted them.

Runs are submitted in waves of array jobs. The first wave needs no other run to be trained first, the second starts from
runs of the first, and so on. All are submitted at once; a wave waits in Slurm for the runs it starts from. A job that
is preempted, out of time or on a failed node is queued again, and its training resumes from the last epoch.
"""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from cds_lib.errors import UsageError
from cds_lib.study.engines import gpus, slurm_jobs
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.local_engine import lacks_parent, outcome
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError
from cds_lib.study.files import write_json
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.processes import begin, send_output_to
from cds_lib.study.store import Store
from cds_lib.study.text import counted

# Options that --slurm may set, by the names of submitit and sbatch.
_NUMBERS = ("time", "cpus_per_task", "gpus_per_node", "signal_delay_s")  # minutes, cores, GPUs, seconds
_TEXTS = (
    "partition account qos constraint mem mem_per_cpu mem_per_gpu gres nodelist exclude mail_type mail_user".split()
)
OPTIONS = (*_NUMBERS, *_TEXTS)

_DEFAULT_MINUTES = 240  # submitit's own default is 5
_TIMEOUTS = 100  # how often a job may run out of time and be queued again
_ARRAY_SIZE = 1000  # tasks that Slurm allows in an array job, unless configured otherwise
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between two checks of the queue
_SETTLE_SECONDS = 60.0  # until files written by another node are visible here


class Training(submitit.helpers.Checkpointable):
    """What a job does: train one run. submitit queues it again, unchanged, when it is preempted or out of time."""

    def __init__(self, spec: RunSpec, store: Store, data_root: Path, processes: int, compile_method: bool):
        self.spec, self.store, self.data_root = spec, Store(store.root.absolute()), data_root.absolute()
        self.processes, self.compile_method = processes, compile_method

    def __call__(self) -> None:
        """Train in the job, with the snapshot's code. RunError if the weights that the run starts from are missing."""
        spec, store = self.spec, self.store
        if spec.parent and not store.is_trained(spec.parent.id):
            raise RunError(lacks_parent(spec))
        begin()
        from cds_lib.study.engines.execute import execute

        told_to_end: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: told_to_end.append(number))
        each = max(1, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) // self.processes)
        threads = each if gpus.device() == "cuda" else 1  # as in the local engine: the same results on a CPU
        try:
            send_output_to(store.run_dir(spec.id) / "log.txt")
            execute(spec, store, self.data_root, Resources(self.processes, threads, each, self.compile_method))
        except Exception:
            if told_to_end:  # SIGTERM went to all processes of the job, and so ended the workers
                store.write_status(spec.id, state="interrupted", error=None)
            raise


def parse_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn KEY=VALUE into what submitit takes. UsageError: the key is not in OPTIONS, or the value does not fit it."""
    options: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        key = key.strip().replace("-", "_")
        if key not in OPTIONS:
            raise UsageError(f"--slurm has no option {key!r}: choose from {', '.join(OPTIONS)}.")
        if not separator or not value.strip() or not value.isprintable():
            raise UsageError(f"--slurm wants KEY=VALUE, such as {key}=..., not {assignment!r}.")
        if key in _NUMBERS and not re.fullmatch("[1-9][0-9]*", value, re.ASCII):
            unit = " of minutes" if key == "time" else " of seconds" if key == "signal_delay_s" else ""
            raise UsageError(f"--slurm {key} must be a whole number{unit}, 1 or more, not {value!r}.")
        options[key] = int(value) if key in _NUMBERS else value.strip()
    return options


@dataclass(frozen=True)
class SlurmEngine:
    """Submits to Slurm and waits.

    Args:
        options: job options, from `parse_options`.
        parallelism: tasks of an array that may run at a time, 0 for as many as Slurm allows.
        processes: processes per run, on the GPUs and cores that `options` ask for.
        compile_method: torch.compile the training step.
    """

    options: dict[str, Any]
    parallelism: int = 0
    processes: int = 1
    compile_method: bool = False

    def run(
        self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress, release: Callable[[], None]
    ) -> dict[str, str]:
        """See `runner.Engine`. UsageError: there is no Slurm, or it refuses a job; jobs submitted before stay.
        RunError: Slurm does not answer."""
        try:
            failed = self.submit(specs, store, data_root, progress)
            release()  # the jobs need no holder of the store, and others may wait for them too
            return failed | self.wait([spec for spec in specs if spec.id not in failed], store, progress)
        except KeyboardInterrupt:
            progress.say(_how_to_go_on(store))
            raise

    def submit(self, specs: Sequence[RunSpec], store: Store, data_root: Path, progress: Progress) -> dict[str, str]:
        """Submit what Slurm does not have yet; return {run id: sentence} for the runs that cannot be trained."""
        if not shutil.which("sbatch") or not shutil.which("srun"):
            raise UsageError(
                "There is no Slurm here (no sbatch): give this command on a login node, or use --engine local."
            )
        if "%" in str(store.root.absolute()):
            raise UsageError(f"Slurm reads % in a path as a pattern: choose --results other than {store.root}.")
        slurm_jobs.forget_ended(store)
        job_ids = {run_id: job.id for run_id, job in slurm_jobs.alive(store).items()}
        queued = len([spec for spec in specs if spec.id in job_ids])
        if queued:
            progress.say(f"Slurm has {counted(queued, 'run')} queued or running already.")
        planned, orphans = waves(specs, job_ids, store.is_trained)
        code = slurm_jobs.snapshot(store) if planned else None
        for wave in planned:
            for start in range(0, len(wave), _ARRAY_SIZE):
                runs = wave[start : start + _ARRAY_SIZE]
                after = {job_ids[spec.parent.id] for spec in runs if spec.parent and spec.parent.id in job_ids}
                trainings = [Training(spec, store, data_root, self.processes, self.compile_method) for spec in runs]
                found = self._submit_array(runs, trainings, store, code, sorted(after))
                job_ids |= {spec.id: job.job_id for spec, job in zip(runs, found, strict=True)}
                waiting = f", after {counted(len(after), 'run')} that they start from" if after else ""
                number = found[0].job_id.partition("_")[0]
                progress.say(f"Submitted {counted(len(runs), 'run')} as Slurm job {number}{waiting}.")
        for spec in specs:
            if spec.id in orphans:
                progress.skip(spec, orphans[spec.id])
        return orphans

    def wait(self, specs: Sequence[RunSpec], store: Store, progress: Progress) -> dict[str, str]:
        """Wait until no run is queued or running; return {run id: sentence} for those that were not trained."""
        waiting = {spec.id: spec for spec in specs}
        failed: dict[str, str] = {}
        ended: dict[str, float] = {}  # when runs without an outcome were first seen to have no job
        pause, silent = _SHORTEST_PAUSE, False
        while waiting:
            try:
                jobs = slurm_jobs.jobs(store)
            except RunError as error:
                if not silent:
                    progress.say(f"{error} The jobs go on; waiting for it.")
                silent = True
            else:
                silent = False
                for spec in list(waiting.values()):
                    if (failure := _follow(spec, jobs.get(spec.id), store, progress, ended)) is not None:
                        del waiting[spec.id]
                        failed |= {spec.id: failure} if failure else {}
            if waiting:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 1.2)
        return failed

    def _submit_array(
        self, runs: Sequence[RunSpec], trainings: Sequence[Training], store: Store, code: Path, after: Sequence[str]
    ) -> list[submitit.Job]:
        executor = submitit.SlurmExecutor(slurm_jobs.folder(store) / "logs", max_num_timeout=_TIMEOUTS)
        name = f"cds-{re.sub('[^A-Za-z0-9.-]', '-', store.root.absolute().name)}-{secrets.token_hex(4)}"
        python_path = f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"
        executor.update_parameters(
            **{"time": _DEFAULT_MINUTES, **self.options},
            job_name=name,
            setup=[python_path],
            # Python searches the working directory first, so it must not be a checkout that may change.
            additional_parameters={"chdir": str(code), "requeue": True},
            stderr_to_stdout=True,
            # Since Slurm 22.05, srun does not inherit this from the job, and would give the task one core.
            srun_args=[f"--cpus-per-task={self.options.get('cpus_per_task', 1)}"],
            array_parallelism=self.parallelism or len(trainings),  # submitit's own default is 256
            **({"dependency": "afterany:" + ":".join(after)} if after else {}),
        )
        # Clear the failures that are tried again, unless Slurm refuses. Once submitted, a run writes its own status.
        states = {spec.id: store.status(spec.id) for spec in runs}
        failures = {run_id: state.get("error") for run_id, state in states.items() if state.get("state") == "failed"}
        for run_id in failures:
            store.write_status(run_id, state="interrupted", error=None)
        note = slurm_jobs.wave(store, name)
        write_json(note, {"runs": [spec.id for spec in runs], "options": self.options, "code": code.name})
        try:
            return executor.submit_array(trainings)
        except (RuntimeError, OSError) as error:  # submitit raises what sbatch prints
            note.unlink()
            for run_id, reason in failures.items():
                store.write_status(run_id, state="failed", error=reason)
            lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error).strip()]
            why = lines[-1].strip()
            raise UsageError(f"Slurm rejects the job ({why}): change the --slurm options.") from error


def _how_to_go_on(store: Store) -> str:
    """Say what a user who has stopped waiting can do."""
    cancel = "scancel"
    with contextlib.suppress(RunError):
        if not (found := slurm_jobs.alive(store)):
            return "Stopped; no Slurm job is queued or running. Run the same command again to go on."
        cancel = slurm_jobs.cancel_command(found.values())
    return (
        "No longer waiting; the Slurm jobs go on. The same command waits for them again, python -m cds_lib status "
        f"(with the same --profile and --results) shows them, {cancel} cancels them."
    )


def waves(
    specs: Sequence[RunSpec], alive: Collection[str], has_weights: Callable[[str], bool]
) -> tuple[list[list[RunSpec]], dict[str, str]]:
    """Return the waves of runs that are not alive, and {run id: sentence} for runs whose parent will not be trained.

    Args:
        alive: ids of runs that are queued or running; has_weights: whether a child may start from the run of this id.
    """
    levels: dict[str, int] = dict.fromkeys(alive, 0)
    planned: dict[int, list[RunSpec]] = {}
    orphans: dict[str, str] = {}
    for spec in specs:  # parents come before their children
        if spec.id in alive:
            continue
        if spec.parent is None or has_weights(spec.parent.id):
            level = 0
        elif spec.parent.id in levels:
            level = levels[spec.parent.id] + 1
        else:
            orphans[spec.id] = lacks_parent(spec)
            continue
        levels[spec.id] = level
        planned.setdefault(level, []).append(spec)
    return [planned[level] for level in sorted(planned)], orphans


def _follow(
    spec: RunSpec, job: slurm_jobs.Job | None, store: Store, progress: Progress, ended: dict[str, float]
) -> str | None:
    """Report the progress of a run; return None while it goes on, "" when it is trained, else why it is not."""
    if job and job.alive:
        ended.pop(spec.id, None)
        if not job.started:  # queued, perhaps again
            progress.requeue(spec)
            return None
        progress.advance(spec, len(store.history(spec.id)))
        return None
    status, failure = store.status(spec.id), ""
    since = time.monotonic() - ended.setdefault(spec.id, time.monotonic())
    if not store.is_trained(spec.id):
        if status.get("state") == "failed":
            failure = status.get("error", "no message")
        elif spec.parent and not store.is_trained(spec.parent.id):
            progress.skip(spec, lacks_parent(spec))
            return lacks_parent(spec)
        elif job and job.state in ("COMPLETED", "FAILED") and since < _SETTLE_SECONDS:
            return None  # the job has ended, but its files may be late
        else:
            which = f"{job.words} has ended, its log is {job.log}" if job else "Its Slurm job has ended"
            failure = f"{which}, but the training has not: the same command resumes it."
    progress.finish(spec, outcome(spec, store, failure))
    return failure
