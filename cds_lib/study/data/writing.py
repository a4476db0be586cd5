"""Writing in a data folder: one writer at a time, and folders that are whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.errors import cure
from cds_lib.study.files import locked


@contextmanager
def single_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the write lock of data set `name` in `root` (made if needed) for the length of the block.

    Raises UsageError if another process holds it or the block cannot write.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{name}.lock") as owner:
            if owner is not None:
                raise UsageError(
                    f"{owner} is writing {name} in {root} right now; wait until it has finished, then try again."
                )
            yield
    except OSError as error:
        raise UsageError(
            f"cannot write in the data folder {root} ({error.strerror or error}), where what is decoded, fetched or "
            f"imported is kept; {cure(error)} or choose one of your own with --data-root."
        ) from error


@contextmanager
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
