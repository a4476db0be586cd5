"""Errors of runs and pages: one sentence that says what is wrong and what to do."""

import errno
import sys
from typing import Any

from cds_lib.errors import TrainingError, UsageError

_CURES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys(
        (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE),
        "a process of this command has ended, perhaps for want of memory: ask for fewer runs at a time (--jobs)",
    ),
    errno.ENOMEM: "ask for fewer runs at a time (--jobs)",
    errno.EFBIG: "free space or allow larger files (ulimit -f)",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class RunError(TrainingError):
    """A run or a notebook failed although it was asked for correctly: printed, recorded, exit code 1."""


class NothingRun(RunError):
    """There is nothing to show yet: a notebook stops here and counts as successful."""


def cure(error: OSError) -> str:
    """What to do about an error of the system, by its number."""
    return _CURES.get(error.errno, "put that right")


def system_error(error: OSError) -> str:
    """The error of the system, and its remedy."""
    return f"{error}: {cure(error)}, then run the same command again."


def one_sentence(error: Exception) -> str:
    """What went wrong in a run or an analysis, and what to do."""
    if isinstance(error, UsageError | TrainingError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return (
            "The GPU is out of memory: run fewer jobs at a time (--jobs), or spread each run over several GPUs "
            "(--processes N, see docs/cluster.md)."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's is a RuntimeError
        return "This machine is out of memory: run fewer jobs at a time (--jobs)."
    if isinstance(error, OSError):
        return system_error(error)
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (the traceback is in the run's log.txt)."


def in_one_line() -> None:
    """In a notebook, print errors of the study and interrupts (also of the user's own loops) as one line instead of a
    traceback. Does nothing outside IPython."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UsageError, RunError, KeyboardInterrupt), _show)


def _show(shell: Any, kind: type[BaseException], error: BaseException, *_: Any, **__: Any) -> list[str]:
    line = f"{kind.__name__}: {error}".removesuffix(": ")
    shell._showtraceback(kind, error, [line])  # no public function of IPython shows a text as a cell's error
    return [line]
