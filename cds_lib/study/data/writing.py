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

    Raises UsageError if another process holds it or the folder cannot be written.
    """
    path = root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UsageError(
            f"cannot write in the data folder {root} ({error.strerror}), where what is decoded, fetched or imported is "
            "kept; choose one of your own with --data-root."
        ) from error
    with locked(path) as owner:
        if owner is not None:
            raise UsageError(
                f"{owner} is writing {name} in {root} right now; wait until it has finished, then try again."
            )
        yield


@contextmanager
def new_folder(target: Path, root: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target`, in the data folder `root`, when the block ends well; else it vanishes.

    Raises UsageError if it cannot be written.
    """
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield building
        os.rename(building, target)
    except OSError as error:
        raise UsageError(
            f"cannot write in {root} ({error.strerror or error}); {cure(error)} or choose --data-root."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
