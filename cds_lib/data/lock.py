"""One writer at a time in a data folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cds_lib.errors import UsageError


@contextmanager
def single_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the write lock of data set `name` in `root` (made if needed) for the length of the block.

    The lock is an advisory flock on `root/.<name>.lock`: it ends with the process, so a crash leaves nothing to clean
    up (the empty file stays, removing it would let two writers hold "the" lock). Raises UsageError if it is held
    already or the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = open(root / f".{name}.lock", "w")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise UsageError(
            f"cannot write in the data folder {root} ({error.strerror}); choose one with --data-root."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is writing {name} in {root} right now; wait until it has finished, then try again."
            ) from None
        yield
