"""Errors of runs and notebooks: one sentence that says what is wrong and what to do."""

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
        "a process of this command has ended, perhaps out of memory: ask for fewer runs at a time (--jobs)",
    ),
    errno.ENOMEM: "ask for fewer runs at a time (--jobs)",
    errno.EFBIG: "free space or allow larger files (ulimit -f)",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class RunError(TrainingError):
    """A run or a notebook failed, although the request was valid. It is printed and recorded; the exit code is 1."""


class NothingRun(RunError):
    """There are no results to show yet. The notebook stops here and counts as successful."""


def cure(error: OSError) -> str:
    """Return what to do about a system error, by its errno."""
    return _CURES.get(error.errno, "fix that")


def system_error(error: OSError) -> str:
    """Return the message of a system error, with its remedy."""
    return f"{error}: {cure(error)}, then run the same command again."


def one_sentence(error: Exception) -> str:
    """Say in one sentence what went wrong in a run or an analysis, and what to do."""
    if isinstance(error, UsageError | TrainingError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's error for GPU memory
        return (
            "The GPU is out of memory: run fewer jobs at a time (--jobs), or spread each run over several GPUs "
            "(--processes N, see docs/cluster.md)."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch raises a RuntimeError
        return "This machine is out of memory: run fewer jobs at a time (--jobs)."
    if isinstance(error, OSError):
        return system_error(error)
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (the traceback is in the run's log.txt)."


def in_one_line() -> None:
    """In a notebook, print errors of the study and interrupts (also in the user's own loops) as one line instead of a
    traceback. Does nothing outside IPython."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UsageError, RunError, KeyboardInterrupt), _show)


def _show(shell: Any, kind: type[BaseException], error: BaseException, *_: Any, **__: Any) -> list[str]:
    line = f"{kind.__name__}: {error}".removesuffix(": ")
    shell._showtraceback(kind, error, [line])  # IPython has no public function that shows text as a cell's error
    return [line]
