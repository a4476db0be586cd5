"""Which runs of a store Slurm has in its queue. What was submitted is kept in the store, what became of it is Slurm's.

    RESULTS/slurm/waves/<name>.json  one array job: the runs of its tasks, in their order, its options and its code;
                                     <name> is Slurm's name of the job. It is written before the job is submitted, so
                                     that a submitter that dies in between leaves no job behind that nobody knows of.
    RESULTS/slurm/logs/              what the jobs print before and after the training, whose own log is the run's
    RESULTS/slurm/code/<hash>/       the code that they import

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
    """A task of an array job, or a job of its own. `id` is what `scancel` takes, state and reason are Slurm's words."""

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
        """`Slurm job 12_3 (PENDING, Dependency)`."""
        return f"Slurm job {self.id} ({self.state}{f', {self.reason}' if self.reason not in ('', 'None') else ''})"


def folder(store: Store) -> Path:
    """All that concerns Slurm in a results folder."""
    return store.root.absolute() / "slurm"


def snapshot(store: Store) -> Path:
    """Copy the package into slurm/code/<hash>/cds_lib, unless it is there already, and return slurm/code/<hash>.

    The jobs import it, so that what is edited after their submission changes nothing for them. The hash is of all files
    and of the code version, which is written beside the package, where `provenance.code_version` finds it.
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
    """The note of the job `name`: {"runs": ids in the order of its tasks, ...}."""
    return folder(store) / "waves" / f"{name}.json"


def forget_ended(store: Store) -> None:
    """Drop the notes of all jobs of which nothing is queued or running any more."""
    waves = _waves(store)
    alive = {name for name, _, job in _queue(store, waves) if job.alive}
    for name in waves.keys() - alive:
        wave(store, name).unlink(missing_ok=True)


def jobs(store: Store) -> dict[str, Job]:
    """The job of each run that Slurm lists, by run id; ended ones are listed for some minutes.

    RunError if Slurm does not answer. A store from which nothing was submitted does not ask it.
    """
    waves = _waves(store)
    found: dict[str, Job] = {}
    for name, index, job in _queue(store, waves):
        run_id = waves[name][index]
        if run_id not in found or job.alive:  # a run may have been in a job before that has ended
            found[run_id] = job
    return found


def alive(store: Store) -> dict[str, Job]:
    """The runs that are queued or running."""
    return {run_id: job for run_id, job in jobs(store).items() if job.alive}


def log_path(store: Store, job_id: str) -> Path:
    """What the job prints outside the training: errors of the node, of the environment, signals."""
    return folder(store) / "logs" / f"{job_id}_0_log.out"


def cancel_command(found: Iterable[Job]) -> str:
    """The command that ends all these jobs; an array is named by its number alone."""
    return " ".join(["scancel", *sorted({job.id.partition("_")[0] for job in found}, key=int)])


def _waves(store: Store) -> dict[str, list[str]]:
    """Run ids in the order of the array's tasks, by job name."""
    waves = {}
    for path in sorted((folder(store) / "waves").glob("*.json")):
        try:
            waves[path.stem] = [str(run_id) for run_id in read_json(path)["runs"]]
        except FileNotFoundError:
            continue  # forgotten by another command in this moment
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read ({error}): cancel the job {path.stem} and delete it.") from error
    return waves


def _queue(store: Store, waves: dict[str, list[str]]) -> list[tuple[str, int, Job]]:
    """(job name, index in its array, job) of everything of these waves that Slurm lists, older jobs first."""
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
        job_id = f"{number}_{index}" if index.isdigit() else number  # N/A: a wave of one run is no array
        job = Job(job_id, state, reason, log_path(store, job_id))
        found.append((int(number), name, int(index) if index.isdigit() else 0, job))
    return [entry[1:] for entry in sorted(found, key=lambda entry: entry[:3])]
