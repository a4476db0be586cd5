"""A notebook's kernel as a process forked from a server that has imported what notebooks import: it starts at once.

Only that server and its children may import this module: it calls `processes.begin`.
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
    """Run the kernel that `use` asks for at the other end of the pipe, until it is shut down."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the server blocks it; a cell may be interrupted
    os.environ.pop("PYTHONSTARTUP", None)  # the user's, which a kernel would run
    pipe.send(os.getpid())
    try:
        connection_file, folder = pipe.recv()
    except EOFError:  # the notebook could not be begun
        return
    os.chdir(folder)
    mpl.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # matplotlib was imported before the kernel
    # The history is an SQLite file in the results folder, and network file systems may not be able to lock it.
    IPKernelApp.launch_instance(["-f", connection_file, "--HistoryManager.enabled=False"])


def use(pipe: Connection) -> None:
    """From now on Jupyter in this process uses the forked kernel at the other end of the pipe."""

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
    """What Jupyter uses of `subprocess.Popen`, for a process that is not a child of this one."""

    stdin = stdout = stderr = None

    def __init__(self, pipe: Connection):
        self.pipe, self.pid = pipe, pipe.recv()

    def poll(self) -> int | None:
        return 1 if self.pipe.poll() else None  # nothing more is sent: it is readable once the process has ended

    def wait(self) -> int:
        self.pipe.poll(None)
        return 1

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)
