"""Fork a notebook's kernel from the process that executes the notebook. That process has already imported what
notebooks import, so the kernel starts at once.

Only the fork server and its children may import this module, because it calls `processes.begin`.
"""

import asyncio
import multiprocessing
import os
import signal
from types import SimpleNamespace
from typing import Any

from cds_lib.study import processes

processes.begin()  # before nbformat is imported

import matplotlib as mpl  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner  # noqa: E402


class Kernel(multiprocessing.get_context("fork").Process):
    """The kernel of a connection file, with the part of the `subprocess.Popen` interface that Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, connection_file: str):
        super().__init__()
        self.connection_file = connection_file

    def run(self) -> None:
        processes.temporary.clear()  # the process that executes the notebook deletes its folder
        processes.begin_as_child()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the fork server blocks it; cells can be stopped
        asyncio.set_event_loop(asyncio.new_event_loop())  # not that of the parent process
        os.environ.pop("PYTHONSTARTUP", None)  # the kernel would run the user's file
        mpl.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # matplotlib is already imported
        # The history is an SQLite file in the results folder, and network file systems may not be able to lock it.
        IPKernelApp.launch_instance(["-f", self.connection_file, "--HistoryManager.enabled=False"])

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class Forked(LocalProvisioner):
    """The provisioner with which Jupyter starts a forked kernel."""

    async def launch_kernel(self, cmd: list[str], **_: Any) -> Any:
        self.process = Kernel(self.parent.connection_file)
        self.process.start()
        self.pid = self.process.pid
        return self.connection_info


def use() -> None:
    """Make Jupyter in this process fork its kernels from now on."""
    KernelProvisionerFactory.instance().provisioners["local-provisioner"] = SimpleNamespace(load=lambda: Forked)
