"""Where a number comes from: the code version, the library versions and the machine, as recorded with every run."""

import ctypes
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import cds_lib
from cds_lib.study.checkout import CHECKOUT

VERSION_FILE = "code_version.txt"  # lies beside a copy of the package that was made from a checkout
_LIBRARIES = ("torch", "torchvision", "timm", "numpy")
# oneDNN's instruction sets, the widest first, each with the processor flag that it needs.
_ONEDNN = {"AVX512_CORE_AMX": "amx_tile", "AVX512_CORE_FP16": "avx512_fp16", "AVX512_CORE_BF16": "avx512_bf16"}
_ONEDNN |= {"AVX512_CORE_VNNI": "avx512_vnni", "AVX512_CORE": "avx512bw", "AVX2_VNNI": "avx_vnni", "AVX2": "avx2"}
_MKL = {7: "AVX512", 5: "AVX2", 3: "SSE4_2", 0: "generic"}  # values of `mkl_serv_cpu_detect`
# Variables that choose kernels. Where PyTorch has MKL, only NumPy and SciPy call OpenBLAS, and not in training.
CHOOSING = ("ATEN_", "ONEDNN_", "DNNL_", "MKL_", "OPENBLAS_")


@cache
def code_version() -> str:
    """Return the commit of the checkout, with "+dirty" if library files differ from it. Return the release if there is
    no `.git`, and "unknown" if git is missing or cannot read it.

    A copy (`slurm_jobs.snapshot`) has the version of the checkout that it was made from.
    """
    if (CHECKOUT / VERSION_FILE).exists():
        return (CHECKOUT / VERSION_FILE).read_text(encoding="utf-8").strip()
    if not (CHECKOUT / ".git").exists():  # git would look for a repository in the folders above
        return f"release {cds_lib.__version__}"
    # Another user's checkout may be read, since its code is being run. Git's variables are dropped: those of a hook
    # that runs the study name another repository.
    command = ["git", "-c", "safe.directory=*", "-c", "status.showUntrackedFiles=all", "-C", str(CHECKOUT)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], env=variables, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = "+dirty" if git("status", "--porcelain", "--", "cds_lib") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def now() -> str:
    """Return the UTC time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a result."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}


@cache
def machine() -> str:
    """Return system and processor, without the host's name: `Linux x86_64, AMD EPYC`."""
    return f"{platform.system()} {platform.machine()}, {processor()}"


def instructions() -> dict[str, str]:
    """Return what decides how a run on the CPU rounds, beside versions and threads: the kernels of PyTorch, oneDNN and
    MKL, and the environment variables that choose them.

    MKL also asks who made the processor: its kernels for makers other than Intel are "generic".
    """
    import torch  # slow, and not needed to submit jobs

    flags = cpuinfo("flags").split()
    try:
        mkl = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).mkl_serv_cpu_detect()
    except (OSError, AttributeError):  # a PyTorch without MKL
        mkl = None
    return {
        "pytorch": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", next((i for i, flag in _ONEDNN.items() if flag in flags), "")),
        "mkl": "none" if mkl is None else _MKL.get(mkl, str(mkl)),
        **{name: value for name, value in sorted(os.environ.items()) if name.startswith(CHOOSING)},
    }


def processor() -> str:
    """Return the processor's name."""
    return cpuinfo("model name") or platform.processor() or "unknown processor"


@cache
def cpuinfo(field: str) -> str:
    """Return a field of the first processor in Linux's /proc/cpuinfo; empty if there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            return next((line.split(":", 1)[1].strip() for line in handle if line.startswith(f"{field}\t")), "")
    except OSError:
        return ""
