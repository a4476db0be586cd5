"""Files that are whole or absent, and locks that die with their owner: what keeps results and data safe."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial, wraps
from pathlib import Path
from typing import IO, Any

from cds_lib.errors import UsageError
from cds_lib.files import refuse_no_file, replacing

_NUMBERS = {"int": int, "float": float, "constant": float}  # as JSON is read; constants are NaN and the infinities


def once(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """`read`, a function of a file, which reads it again only where it was written since; nobody changes the result."""

    @cache
    def stamped(path: Path, *stamp: int) -> Any:
        return read(path)

    @wraps(read)
    def reading(path: Path) -> Any:
        found = path.stat()
        return stamped(path, found.st_ino, found.st_mtime_ns, found.st_size)

    return reading


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; nobody ever sees a part of it."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, data: dict[str, Any]) -> None:
    """`write_text` of indented JSON; ValueError for numbers JSON does not have, such as NaN."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """The content of a file; OSError where there is none, or something else."""
    refuse_no_file(path)
    return path.read_bytes()


def sha256_of(path: Path) -> str:
    """Of all that a file holds, in hexadecimal digits."""
    refuse_no_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@once
def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; OSError, ValueError where it is no object or has a number that no float can hold."""

    def number(kind: type, text: str) -> float:
        value = kind(text)
        if not abs(value) <= sys.float_info.max:
            raise ValueError(f"{text[:20]} in it is no number, or too large")
        return value

    numbers = {f"parse_{name}": partial(number, kind) for name, kind in _NUMBERS.items()}
    try:
        found = json.loads(read_bytes(path), **numbers)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def has_shape(value: Any, shape: Any) -> bool:
    """Whether `value` is of these types; of a dict and of a list, what they hold: {"points": [int | float]}."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(has_shape(value.get(name), kind) for name, kind in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(each, shape[0]) for each in value)
    return isinstance(value, shape)


@contextlib.contextmanager
def new_folder(target: Path, part: str = "") -> Iterator[Path]:
    """A folder to fill that becomes `target` when the block ends well, or whose `part` does; else it vanishes."""
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
    """Hold the lock that the file `path` stands for, or yield the name of its owner if another process holds it.

    Yields None when the lock is ours until the block ends. The system frees it when a process dies; the file stays,
    since removing it would let two processes hold "the" lock.
    """
    refuse_no_file(path)
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
    if not path.is_file():
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
