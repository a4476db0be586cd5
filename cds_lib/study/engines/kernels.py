"""The CPU kernels that decide how a training rounds, and how to use others than the processor's default.

PyTorch and oneDNN choose kernels by the processor's instructions. MKL, which multiplies PyTorch's matrices, first asks
who made the processor: on AMD it uses kernels that it never uses on Intel. A training gives the same bits if all three
libraries use the same kernels.
"""

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.engines import provenance

# MKL's questions about the maker, answered for the other one: a library that is preloaded overrides these functions.
_ANSWERS = """
int mkl_serv_intel_cpu_true(void) { return INTEL; }
int mkl_serv_intel_cpu(void) { return INTEL; }
int mkl_serv_cpuiszen(void) { return !INTEL; }
"""
_FLAGS = {"AVX512": "avx512bw", "AVX2": "avx2"}


@dataclass(frozen=True)
class Kernels:
    """A choice of kernels. instructions: "AVX512" or "AVX2", the widest set that PyTorch and oneDNN use. mkl: "AMD",
    "AVX512" or "AVX2", the kernels that MKL uses.

    Both are empty on systems and processors whose kernels cannot be chosen: the machine's own are used.
    """

    instructions: str
    mkl: str

    @property
    def name(self) -> str:
        return f"{self.instructions}, MKL {self.mkl}" if self.instructions else "this machine's own"

    @property
    def _of_another_maker(self) -> bool:
        return bool(self.mkl) and (self.mkl == "AMD") != on_amd()

    @property
    def lack(self) -> str:
        """Why this machine cannot compute with these kernels, as half a sentence; empty if it can."""
        flags = provenance.cpuinfo("flags").split()
        if missing := [name for name in (self.instructions, self.mkl) if name in _FLAGS and _FLAGS[name] not in flags]:
            return f"this processor has no {missing[0]}"
        if self._of_another_maker and not shutil.which("cc"):
            return "MKL takes the kernels for another maker's processors only with the help of a C compiler (cc)"
        return ""

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the variables of a process with these kernels. It starts in `folder`; files it needs are put there."""
        variables = {}
        if self.instructions == "AVX2":
            variables = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        if self.mkl == "AVX2":
            variables["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
        if self._of_another_maker:
            (folder / "answers.c").write_text(_ANSWERS, encoding="utf-8")
            answer = f"-DINTEL={int(on_amd())}"
            subprocess.run(["cc", "-shared", "-fPIC", answer, "-o", "answers.so", "answers.c"], cwd=folder, check=True)
            variables["LD_PRELOAD"] = "./answers.so"  # relative: a path with spaces or colons would count as several
        return variables

    def are(self, instructions: dict[str, str]) -> bool:
        """Whether these are the kernels that `provenance.instructions` recorded."""
        if not self.instructions:
            return True
        mkl = "generic" if self.mkl == "AMD" else self.mkl
        widest = {instructions.get(name, "").split("_")[0] for name in ("pytorch", "onednn")}
        return widest == {self.instructions} and instructions.get("mkl", mkl) == mkl


# The widest first, AMD's first. AVX2 with MKL's AVX-512: an Intel processor with only PyTorch and oneDNN limited.
_PAIRS = [("AVX512", "AMD"), ("AVX512", "AVX512"), ("AVX2", "AMD"), ("AVX2", "AVX512"), ("AVX2", "AVX2")]
KNOWN = [Kernels(*pair) for pair in _PAIRS]


def candidates(status: dict[str, Any]) -> list[Kernels]:
    """Return the kernels that a run with this status may have been trained with, widest first. UsageError: it was
    trained on another kind of system, or with kernels that no processor uses by default."""
    machine = status.get("machine", "")
    here = f"{platform.system()} {platform.machine()}"
    if machine.split(",")[0] != here:
        raise UsageError(f"It was trained on {machine or 'an unknown machine'}, and this one is {here}.")
    if here != "Linux x86_64":
        return [Kernels("", "")]
    found = KNOWN
    if recorded := status.get("instructions"):
        found = [kernels for kernels in found if kernels.are(recorded)]
    if "AMD" in machine or "Intel" in machine:
        found = [kernels for kernels in found if (kernels.mkl == "AMD") == ("AMD" in machine)]
    if not found:
        raise UsageError(f"It was trained with kernels that no processor uses by default: {recorded}.")
    return found


def on_amd() -> bool:
    """Whether MKL uses its kernels for AMD on this machine by default."""
    return "Intel" not in provenance.cpuinfo("vendor_id")
