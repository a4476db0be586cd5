"""Checkpoints that are either complete or absent, and load as weights only (unpickling cannot run code)."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from cds_lib.errors import TrainingError
from cds_lib.files import replacing


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts to a temporary file, then rename it to `path`."""
    archive = io.BytesIO()  # writing to a file, torch's zip writer would hide the system's error about a full disk
    torch.save(state, archive)
    with replacing(path) as file:
        file.write(archive.getbuffer())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Load what `save` wrote; a damaged file raises a TrainingError that names it."""
    try:
        with zipfile.ZipFile(path) as members:  # torch does not verify the checksums of its own files
            if broken := members.testzip():
                raise zipfile.BadZipFile(broken)
        return torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, PermissionError, torch.cuda.OutOfMemoryError):
        raise  # the file may be intact
    except Exception as error:  # damaged zip, damaged pickle: torch has no common class for them
        raise TrainingError(f"{path} is damaged ({type(error).__name__}): delete it and run again.") from error
