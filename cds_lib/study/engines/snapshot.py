"""A copy of the code that jobs import: what is edited after their submission changes nothing for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import cds_lib
from cds_lib.study.engines import provenance


def take(folder: Path) -> Path:
    """Copy the package into `folder`/<hash>/cds_lib, unless it is there already, and return `folder`/<hash>.

    The hash is of the files' names and contents and of the code version, which is written beside the package, where
    `provenance.code_version` finds it. All files of the package belong to it, also those that git does not track yet.
    """
    package = Path(cds_lib.__file__).resolve().parent
    version = provenance.code_version()
    files = {
        path.relative_to(package.parent): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }
    digest = hashlib.sha256(version.encode())
    for name, content in files.items():
        digest.update(f"\n{name.as_posix()} {len(content)}\n".encode() + content)
    target = folder / digest.hexdigest()[:12]
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder))
    try:
        part.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner alone
        for name, content in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        (part / provenance.VERSION_FILE).write_text(version + "\n", encoding="utf-8")
        os.rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
