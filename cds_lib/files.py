"""Files that are whole or absent, and locks that die with their owner: what keeps results and data safe."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from cds_lib.errors import UsageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes the place of `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; nobody ever sees a part of it."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, data: dict[str, Any]) -> None:
    """`write_text` of indented JSON; ValueError for numbers JSON does not have, such as NaN."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[str | None]:
    """Hold the lock that the file `path` stands for, or yield the name of its owner if another process holds it.

    Yields None when the lock is ours until the block ends. The system frees it when a process dies; the file stays,
    since removing it would let two processes hold "the" lock.
    """
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
        for attempt in range(5):  # somebody who only asks whether it is held holds it for an instant
            if _lock(file, fcntl.LOCK_EX):
                break
            time.sleep(0.05 * attempt)
        else:
            file.seek(0)
            yield file.read().strip() or "another process"
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    if not path.exists():
        return False
    with open(path) as file:
        return not _lock(file, fcntl.LOCK_SH)


def _lock(file: IO, kind: int) -> bool:
    """Take the lock unless somebody holds it; UsageError where files cannot be locked, as on some networks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        raise UsageError(
            f"The file system of {file.name} cannot lock files ({error.strerror}): choose a folder on another one, or "
            "have it mounted with locks (Lustre: the option flock)."
        ) from error
    return True
