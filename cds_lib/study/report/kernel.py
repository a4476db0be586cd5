"""The kernel of a notebook, as a process that was forked from one that has imported what notebooks import.

This module begins the process that imports it: it is for the server of `fork_server` and for what it forks.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from cds_lib.study import processes

processes.begin()  # before nbformat is imported

import matplotlib as mpl  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner  # noqa: E402


def serve(say: Callable[[Any], None], pipe: Connection) -> None:
    """Be the kernel that is asked for at the other end of the pipe, see `use`, until it is shut down."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the server blocks it; a cell may be interrupted
    os.environ.pop("PYTHONSTARTUP", None)  # the user's, which a kernel would run
    pipe.send(os.getpid())
    try:
        connection_file, folder = pipe.recv()
    except EOFError:  # the notebook could not be begun
        return
    os.chdir(folder)
    mpl.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # as a kernel tells those who import it later
    # Its history would be a data base in the results folder, which may be on a network that cannot lock one.
    IPKernelApp.launch_instance(["-f", connection_file, "--HistoryManager.enabled=False"])


def use(pipe: Connection) -> None:
    """Let the kernel at the other end of the pipe be the one that Jupyter starts next in this process."""

    class Forked(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
            try:
                self.process = _Process(pipe)
                pipe.send((self.parent.connection_file, os.getcwd()))
            except (EOFError, OSError) as error:
                raise RuntimeError("its process has ended") from error
            self.pid = self.process.pid
            return self.connection_info

    KernelProvisionerFactory.instance().provisioners["local-provisioner"] = SimpleNamespace(load=lambda: Forked)


class _Process:
    """What Jupyter asks of a `subprocess.Popen`, of a process that is another one's child."""

    stdin = stdout = stderr = None

    def __init__(self, pipe: Connection):
        self.pipe, self.pid = pipe, pipe.recv()

    def poll(self) -> int | None:
        return 1 if self.pipe.poll() else None  # nothing more is sent: the pipe's end is that of the process

    def wait(self) -> int:
        self.pipe.poll(None)
        return 1

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)
