"""Where a number comes from: the code version, the library versions and the machine, as recorded with every run."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata

import cds_lib
from cds_lib.checkout import CHECKOUT

VERSION_FILE = "code_version.txt"  # beside a copy of the package that was made of a checkout
_LIBRARIES = ("torch", "torchvision", "timm", "numpy")


@cache
def code_version() -> str:
    """The commit of the checkout, with "+dirty" if library files differ from it; the release outside a checkout.

    A copy (`engines.snapshot`) has the version of the checkout that it was made of.
    """
    if (CHECKOUT / VERSION_FILE).exists():
        return (CHECKOUT / VERSION_FILE).read_text(encoding="utf-8").strip()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = "+dirty" if git("status", "--porcelain", "--", "cds_lib") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return f"release {cds_lib.__version__}"


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}


@cache
def machine() -> str:
    """System and processor, without the host's name: `Linux x86_64, AMD EPYC`."""
    return f"{platform.system()} {platform.machine()}, {processor()}"


def processor() -> str:
    """The processor's name, which decides how a run rounds."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            return next(line.split(":", 1)[1].strip() for line in handle if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
