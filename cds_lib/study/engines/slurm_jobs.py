"""Find which runs of a store are in Slurm's queue. The store keeps what was submitted; Slurm knows the states.

    RESULTS/slurm/waves/<name>.json  one array job: its runs in the order of its tasks, its options and its code;
                                     <name> is Slurm's name of the job. It is written before the job is submitted, so
                                     a submitter that dies in between leaves no unknown job behind
    RESULTS/slurm/logs/              output of the jobs before and after training, which writes to the run's own log
    RESULTS/slurm/code/<hash>/       the code that the jobs import

States come from `squeue`, which every cluster has, and not from `sacct`, which needs an accounting database.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cds_lib
from cds_lib.study.engines import provenance
from cds_lib.study.errors import RunError
from cds_lib.study.files import new_folder, read_json
from cds_lib.study.store import Store

_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
_STARTED = frozenset("RUNNING COMPLETING SUSPENDED STOPPED SIGNALING STAGE_OUT".split())
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """A task of an array job, or a single job. `id` is what `scancel` takes; state and reason are in Slurm's words."""

    id: str
    state: str
    reason: str
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it runs or will run."""
        return self.state not in _ENDED

    @property
    def started(self) -> bool:
        return self.state in _STARTED

    @property
    def words(self) -> str:
        """Text such as `Slurm job 12_3 (PENDING, Dependency)`."""
        return f"Slurm job {self.id} ({self.state}{f', {self.reason}' if self.reason not in ('', 'None') else ''})"


def folder(store: Store) -> Path:
    """Return the folder of everything about Slurm in a results folder."""
    return store.root.absolute() / "slurm"


def snapshot(store: Store) -> Path:
    """Copy the package into slurm/code/<hash>/cds_lib, unless it is there already, and return slurm/code/<hash>.

    The jobs import this copy, so edits after their submission do not affect them. The hash covers all files and the
    code version. The version is written beside the package, where `provenance.code_version` finds it.
    """
    package, version = Path(cds_lib.__file__).resolve().parent, provenance.code_version()
    digest = hashlib.sha256(version.encode())
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            name, content = path.relative_to(package).as_posix(), path.read_bytes()
            digest.update(f"\n{name} {len(content)}\n".encode() + content)
    target = folder(store) / "code" / digest.hexdigest()[:12]
    if not target.exists():
        with new_folder(target) as building:
            shutil.copytree(package, building / package.name, ignore=shutil.ignore_patterns("__pycache__"))
            (building / provenance.VERSION_FILE).write_text(version + "\n", encoding="utf-8")
    return target


def wave(store: Store, name: str) -> Path:
    """Return the path of the note of job `name`: {"runs": ids in the order of its tasks, ...}."""
    return folder(store) / "waves" / f"{name}.json"


def forget_ended(store: Store) -> None:
    """Delete the notes of all jobs with nothing queued or running any more."""
    waves = _waves(store)
    alive = {name for name, _, job in _queue(store, waves) if job.alive}
    for name in waves.keys() - alive:
        wave(store, name).unlink(missing_ok=True)


def jobs(store: Store) -> dict[str, Job]:
    """Return {run id: job} for the runs that Slurm lists; it lists ended jobs for some minutes.

    RunError if Slurm does not answer. It is not asked if nothing was submitted from the store.
    """
    waves = _waves(store)
    found: dict[str, Job] = {}
    for name, index, job in _queue(store, waves):
        run_id = waves[name][index]
        if job.alive or run_id not in found or not found[run_id].alive:  # a run may have several: the newest that lives
            found[run_id] = job
    return found


def alive(store: Store) -> dict[str, Job]:
    """Return {run id: job} for the runs that are queued or running."""
    return {run_id: job for run_id, job in jobs(store).items() if job.alive}


def log_path(store: Store, job_id: str) -> Path:
    """Return the file of a job's output outside training: errors of the node or the environment, signals."""
    return folder(store) / "logs" / f"{job_id}_0_log.out"


def cancel_command(found: Iterable[Job]) -> str:
    """Return the command that cancels all these jobs; an array is named by its number alone."""
    return " ".join(["scancel", *sorted({job.id.partition("_")[0] for job in found}, key=int)])


def _waves(store: Store) -> dict[str, list[str]]:
    """Return {job name: run ids in the order of the array's tasks}."""
    waves = {}
    for path in sorted((folder(store) / "waves").glob("*.json")):
        try:
            waves[path.stem] = [str(run_id) for run_id in read_json(path)["runs"]]
        except FileNotFoundError:
            continue  # just deleted by another command
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read ({error}): cancel the job {path.stem} and delete it.") from error
    return waves


def _queue(store: Store, waves: dict[str, list[str]]) -> list[tuple[str, int, Job]]:
    """Return (job name, index in its array, job) of every task of these waves that Slurm lists, older jobs first."""
    if not waves:
        return []
    command = ["squeue", "--noheader", "--array", "--states=all", "--name", ",".join(waves), "--format=%j|%F|%K|%T|%r"]
    if not shutil.which("squeue"):
        raise RunError("Slurm cannot be asked for the jobs (there is no squeue here): use a machine of the cluster.")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"Slurm does not answer (squeue took more than {_PATIENCE_SECONDS} s): try again.") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise RunError(f"Slurm does not answer ({why}): try again.")
    found = []
    for line in done.stdout.splitlines():
        name, number, index, state, reason = line.split("|", 4)
        job_id = f"{number}_{index}" if index.isdigit() else number  # N/A: a wave of one run is not an array
        job = Job(job_id, state, reason, log_path(store, job_id))
        found.append((int(number), name, int(index) if index.isdigit() else 0, job))
    return [entry[1:] for entry in sorted(found, key=lambda entry: entry[:3])]
