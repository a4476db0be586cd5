"""One writer at a time in a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.files import locked


@contextmanager
def single_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the write lock of data set `name` in `root` (made if needed) for the length of the block.

    Raises UsageError if another process holds it or the folder cannot be written.
    """
    path = root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UsageError(
            f"cannot write in the data folder {root} ({error.strerror}); choose one with --data-root."
        ) from error
    with locked(path) as owner:
        if owner is not None:
            raise UsageError(
                f"{owner} is writing {name} in {root} right now; wait until it has finished, then try again."
            )
        yield
