"""Weights that are kept with committed results: RESULTS/weights/<id>.safetensors, whose header names the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open

from cds_lib.files import replacing
from cds_lib.study.errors import RunError
from cds_lib.study.files import sha256_of, write_text
from cds_lib.study.plan.spec import RunSpec

_SUMS = "SHA256SUMS"  # of all files of the folder, as `sha256sum` writes and checks it


def write(folder: Path, spec: RunSpec, method: dict[str, Any], model: str) -> None:
    """method: the state of the run's method, by name; model: sha256 of the model.pt that it was read from."""
    tensors = {name: value.contiguous().clone() for name, value in method.items()}  # none may share memory
    content = safetensors.torch.save(tensors, {"run": spec.id, "spec": spec.canonical, "model": model})
    with replacing(folder / f"{spec.id}.safetensors") as file:
        file.write(content)
    sums = (f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors")))
    write_text(folder / _SUMS, "".join(sums))


def read(path: Path) -> dict[str, Any]:
    """{"method", "spec", "model"}; RunError if the file is not as it was written."""
    if f"{sha256_of(path)}  {path.name}\n" not in (path.parent / _SUMS).read_text(encoding="utf-8"):
        raise RunError(f"{path} is not the file that {_SUMS} beside it names: bring it back with git, or delete it.")
    with safe_open(path, "pt") as file:
        return {**file.metadata(), "method": safetensors.torch.load_file(path)}
