"""Processes that work for this one and are heard through a pipe: for runs, analyses, notebooks, the shares of one run.

They are forked from a server that has imported once what they need, so that starting one takes a fraction of a second;
it has no GPU that they could inherit. They end with this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

from cds_lib.study.errors import one_sentence
from cds_lib.study.processes import begin_as_child, send_output_to

T = TypeVar("T")


class Worker:
    """A process that calls `work(say, *arguments)`, where `say` sends ("progress", value).

    Args:
        context: of `fork_server`.
        variables: of its environment, which are set before `work` is called.
        log: a file that gets what it prints; None: it prints where this process does.
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
            process.start()  # no daemon: those may not have processes of their own
            return process

        try:
            self.process = start()
        except (EOFError, ConnectionError):  # the server was killed in this instant: there is a new one by now
            self.process = start()
        theirs.close()

    def fileno(self) -> int:
        return self.pipe.fileno()

    def hear(self) -> tuple[str, Any]:
        """("progress", value); last ("done", what `work` returned), ("failed", sentence) or ("died", sentence)."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code, kind = self.process.exitcode, "died"
            value = f"The process died (exit code {code}): see the run's log.txt and what was printed here."
            if code < 0:
                value = f"The process died (signal {-code}), perhaps for want of memory: try fewer jobs (--jobs)."
        if kind != "progress":
            self.process.join()
            self.pipe.close()
        return kind, value

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Any, log: Path | None, variables: dict[str, str], work: Callable[..., Any], arguments: tuple) -> None:
    """The new process."""
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
    """Work off tasks, a process each, and yield what these say: (task, kind, value), as of `Worker.hear`, and before
    that (task, "begun", None).

    Args:
        take: returns a task that may begin, or None if there is none, now or at all.
        start: is called with it and a number below `at_a_time`, which no other task has meanwhile.
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
    """End them all."""
    for worker in workers:
        worker.kill()
