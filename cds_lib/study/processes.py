"""Set up processes of the study, and run worker processes: for runs, analyses, notebooks and the shares of one run.

Importing the library changes nothing about a process; the study's own processes call `begin`. Workers are forked from a
server that has already imported what they need, so starting one takes a fraction of a second. The server uses no GPU,
because a forked process could not use it again. Workers report through a pipe and end with their parent.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import connection, forkserver, parent_process, resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import one_sentence

T = TypeVar("T")

temporary: list[Path] = []  # folders that a child deletes when its parent has ended
_FILES = 65_536  # more than the images that all workers together have in flight
_LONGEST_TEMPORARY = 64  # bytes; multiprocessing appends 32
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # values from glibc's malloc.h


def begin() -> None:
    """Prepare a process of the study before slow imports: standard streams, HOME, a short temporary folder, malloc."""
    _open_standard_streams()
    use_short_temporary_folder()
    if os.path.expanduser("~") == "~":  # no HOME and no passwd entry, as in a container; Jupyter needs a home
        os.environ["HOME"] = tempfile.gettempdir()
    os.environ.pop("MPLBACKEND", None)  # plots need no window, and a missing backend would fail the import
    # By default the C library returns the memory of a large tensor to the system when it is freed. Getting it again
    # costs a page fault for every 4 KiB, half the time of making the views. So glibc is told to keep it: tensors up to
    # 32 MiB, 256 MiB in all.
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**25)
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 2**28)
    # nbformat validates with jsonschema. If jsonschema finds this package, it builds a grammar of international
    # resource identifiers: a second per process that reads a notebook. It works without, and notebooks do not need it.
    sys.modules.setdefault("rfc3987_syntax", None)


def begin_as_child(_worker_id: int = 0) -> None:
    """Prepare a worker process like `begin`, and end it when its parent ends, however that happens. To the system the
    fork server is its parent, so a thread watches for the end of the real one.

    The argument is unused: DataLoader passes it to the `worker_init_fn` of its workers.
    """
    begin()
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            connection.wait([parent.sentinel])
            for folder in temporary:
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _open_standard_streams() -> None:
    """Open standard streams that are closed (`>&-`); otherwise the next files opened would take their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def use_short_temporary_folder() -> None:
    """Replace a temporary folder whose path is too long for sockets in it, whose addresses have at most 103 bytes."""
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMPORARY and os.access("/tmp", os.W_OK):
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"


def fork_server(preload: list[str]) -> multiprocessing.context.ForkServerContext:
    """Start a server that imports these modules, and return a context whose processes are forked from it."""
    use_short_temporary_folder()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    paths = os.pathsep.join([str(CHECKOUT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    # Without PYTHONSAFEPATH, Python would search the user's working directory first, even for `random`.
    ours = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    theirs = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)  # the only way to tell the server
    resource_tracker.ensure_running()  # needed by the server; starting it later would undo the next line
    # Ctrl-C reaches the whole process group, and a server that is still importing must not answer with a traceback.
    # Slurm's warning signals reach all processes of a job, but are meant for the first.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for name, value in theirs.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


def send_output_to(path: Path) -> None:
    """Append the output of this process and its children to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


def allow_many_files() -> None:
    """Raise this process's limit of open files, often 1,024 at first, to 65,536 or what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system may refuse even its stated limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Worker:
    """A process that calls `work(say, *arguments)`, where `say` sends ("progress", value).

    Args:
        context: from `fork_server`.
        variables: environment variables, set before `work` is called.
        log: file for its output; None: it prints where this process does.
    """

    def __init__(
        self,
        context: Any,
        work: Callable[..., Any],
        *arguments: Any,
        variables: Mapping[str, str],
        log: Path | None = None,
    ):
        self.pipe, theirs = context.Pipe(duplex=False)

        def start() -> Any:
            process = context.Process(target=_work, args=(theirs, log, dict(variables), work, arguments))
            process.start()  # no daemon: daemons may not start processes
            return process

        try:
            self.process = start()
        except (EOFError, ConnectionError):  # the server was just killed; this starts a new one
            self.process = start()
        theirs.close()

    def fileno(self) -> int:
        return self.pipe.fileno()

    def hear(self) -> tuple[str, Any]:
        """Receive ("progress", value) or, at the end, ("done", result), ("failed", sentence) or ("died", sentence)."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code, kind = self.process.exitcode, "died"
            value = f"The process died (exit code {code}): see the run's log.txt and what was printed here."
            if code < 0:
                value = f"The process died (signal {-code}), perhaps out of memory: try fewer jobs (--jobs)."
        if kind != "progress":
            self.process.join()
            self.pipe.close()
        return kind, value

    def kill(self) -> None:
        """Kill the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Any, log: Path | None, variables: dict[str, str], work: Callable[..., Any], arguments: tuple) -> None:
    """Run in the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    begin_as_child()
    os.environ.update(variables)
    try:
        if log:
            send_output_to(log)
        end = "done", work(lambda value: pipe.send(("progress", value)), *arguments)
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk
            traceback.print_exc()
        end = "failed", one_sentence(error)
    pipe.send(end)


def work_off(
    take: Callable[[], T | None], start: Callable[[T, int], Worker], at_a_time: int
) -> Iterator[tuple[T, str, Any]]:
    """Run tasks, one worker process each; yield (task, "begun", None), then (task, kind, value) as from `Worker.hear`.

    Args:
        take: returns a task that may begin, or None if there is none at the moment, or none left.
        start: called with the task and a number below `at_a_time` that no other running task has.
    """
    working: dict[Worker, tuple[T, int]] = {}
    try:
        while True:
            while len(working) < at_a_time and (task := take()) is not None:
                number = min(set(range(at_a_time)) - {taken for _, taken in working.values()})
                working[start(task, number)] = task, number
                yield task, "begun", None
            if not working:
                return
            for worker in connection.wait(list(working)):
                task = working[worker][0]
                kind, value = worker.hear()
                if kind != "progress":
                    del working[worker]
                yield task, kind, value
    finally:
        kill(working)


def kill(workers: Iterable[Worker]) -> None:
    """Kill all these workers."""
    for worker in workers:
        worker.kill()
