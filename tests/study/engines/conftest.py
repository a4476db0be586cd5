"""Fixtures: a one-node Slurm from Debian's packages, started without systemd; it needs root."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch

from cds_lib.study.report import write
from cds_lib.study.report.comparisons import COMPARED

COMMANDS = "slurmctld slurmd munged sbatch srun squeue scancel scontrol".split()

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AuthType=auth/munge
# A job that is queued again waits for the credential of its last start to expire: 2 minutes, or 5 seconds at least.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
MpiDefault=none
KillWait=0
JobRequeue=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def one_comparison():
    """Compute the comparisons of the study's tables only once, as these tests have no runs of those tables."""
    compare, made = write.comparisons, []

    def once(frames):
        assert not any(frames[name]["finished"].any() for name in COMPARED)
        made[:] = made or [compare(frames)]
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "comparisons", once)
        yield


@pytest.fixture(scope="module")
def slurm():
    """Start Slurm, point SLURM_CONF to it, and stop it after the tests of the module."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in COMMANDS if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"needs Debian's slurm-wlm and munge (no {', '.join(missing)})")
    if os.geteuid() != 0:
        pytest.skip("needs root to start Slurm")
    before, daemons = dict(os.environ), []
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            for variable in [v for v in os.environ if v.startswith(("SLURM", "SBATCH", "SQUEUE", "SUBMITIT"))]:
                del os.environ[variable]
            os.environ["PATH"] += ":/usr/sbin:/sbin"
            os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
            _configure(folder)
            munge = folder / "munge"
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
            arguments = [f"--{option}={munge / file}" for option, file in files.items()]
            daemons.append(_start(folder, "munged", "--foreground", "--force", *arguments))
            _wait(folder, daemons, lambda: (munge / "socket").exists())
            daemons.append(_start(folder, "slurmctld", "-D"))
            daemons.append(_start(folder, "slurmd", "-D"))
            _wait(folder, daemons, lambda: "idle" in _output("sinfo", "--noheader", "--format=%T"))
            yield
        finally:
            if len(daemons) == 3:
                _output("scancel", "--user=root")
                end = time.monotonic() + 10
                while _output("squeue", "--noheader") and time.monotonic() < end:
                    time.sleep(0.1)
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in reversed(daemons):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.wait(10)
                daemon.kill()
            os.environ.clear()
            os.environ.update(before)


def _configure(folder: Path):
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    with contextlib.ExitStack() as sockets:
        free = [sockets.enter_context(socket.socket()) for _ in range(2)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, ports=ports))


def _start(folder: Path, *command: str):
    with open(folder / f"{command[0]}.out", "w") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _wait(folder: Path, daemons, condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
            words = [line for file in folder.glob("*.out") for line in file.read_text().splitlines()[-3:]]
            pytest.skip("Slurm did not start: " + " / ".join(words))
        time.sleep(0.05)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
