"""Atomic file writes, and locks that end with their process: they keep results and data safe."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import IO, Any

from cds_lib.errors import UsageError
from cds_lib.files import replacing


def once(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Cache a function of a file: it is called again only after the file has changed. Do not modify what it returns."""

    kept: dict[Path, tuple[tuple[int, ...], Any]] = {}  # one version of each: a history grows with every epoch

    @wraps(read)
    def reading(path: Path) -> Any:
        found = path.stat()
        stamp = found.st_ino, found.st_mtime_ns, found.st_size
        if path not in kept or kept[path][0] != stamp:
            kept[path] = stamp, read(path)
        return kept[path][1]

    return reading


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically: no reader ever sees a part of it."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a dict as indented JSON, atomically. ValueError for numbers that JSON does not have, such as NaN."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@once
def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote. OSError or ValueError if the file cannot be read or holds no JSON object."""
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


@contextlib.contextmanager
def new_folder(target: Path, part: str = "") -> Iterator[Path]:
    """Yield a folder to fill; after the block, it or its `part` becomes `target`. On an error it is deleted."""
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield building
        os.rename(building / part, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[str | None]:
    """Lock the file `path` for the block and yield None. If another process holds the lock, yield that process's name.

    The system frees the lock when a process dies. The file stays: if it were removed, two processes could hold a lock.
    """
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
        for attempt in range(5):  # `is_locked` in another process holds it for an instant
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
    if not path.is_file():
        return False
    with open(path) as file:
        return not _lock(file, fcntl.LOCK_SH)


def _lock(file: IO, kind: int) -> bool:
    """Take the lock if free; return whether it was. UsageError if the file system cannot lock, as on some networks."""
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
