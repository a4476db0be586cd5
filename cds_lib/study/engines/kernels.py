"""The kernels that a training on the CPU rounds by, and how to have others than those that the processor would get.

PyTorch and oneDNN choose theirs by the processor's instructions. MKL, which multiplies PyTorch's matrices, asks first
who made the processor: on AMD's it takes kernels that it never takes on Intel's. The bits of a training are the same
where all three are.
"""

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.engines import provenance

# What MKL asks, answered for another maker: a library that is loaded first has the last word on these names.
_ANSWERS = """
int mkl_serv_intel_cpu_true(void) { return INTEL; }
int mkl_serv_intel_cpu(void) { return INTEL; }
int mkl_serv_cpuiszen(void) { return !INTEL; }
"""
_FLAGS = {"AVX512": "avx512bw", "AVX2": "avx2"}


@dataclass(frozen=True)
class Kernels:
    """instructions: "AVX512" or "AVX2", the widest that PyTorch and oneDNN use; mkl: "AMD", "AVX512" or "AVX2", whose
    kernels MKL uses.

    Neither ("", ""): as the machine has them, on systems and processors whose kernels cannot be chosen.
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
        """Why this machine cannot compute with them, as half a sentence; "": it can."""
        flags = provenance.cpuinfo("flags").split()
        if missing := [name for name in (self.instructions, self.mkl) if name in _FLAGS and _FLAGS[name] not in flags]:
            return f"this processor has no {missing[0]}"
        if self._of_another_maker and not shutil.which("cc"):
            return "MKL takes the kernels for another maker's processors only with the help of a C compiler (cc)"
        return ""

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables of a process that computes with them and starts in `folder`, which what they need is put into."""
        variables = {}
        if self.instructions == "AVX2":
            variables = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        if self.mkl == "AVX2":
            variables["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
        if self._of_another_maker:
            (folder / "answers.c").write_text(_ANSWERS, encoding="utf-8")
            answer = f"-DINTEL={int(on_amd())}"
            subprocess.run(["cc", "-shared", "-fPIC", answer, "-o", "answers.so", "answers.c"], cwd=folder, check=True)
            variables["LD_PRELOAD"] = "./answers.so"  # a path with spaces or colons would be taken for several
        return variables

    def are(self, instructions: dict[str, str]) -> bool:
        """Whether they are those that `provenance.instructions` recorded."""
        if not self.instructions:
            return True
        mkl = "generic" if self.mkl == "AMD" else self.mkl
        widest = {instructions.get(name, "").split("_")[0] for name in ("pytorch", "onednn")}
        return widest == {self.instructions} and instructions.get("mkl", mkl) == mkl


# The widest first, AMD's first. AVX2 with MKL's AVX-512 is what Intel's have where only PyTorch and oneDNN are limited.
_PAIRS = [("AVX512", "AMD"), ("AVX512", "AVX512"), ("AVX2", "AMD"), ("AVX2", "AVX512"), ("AVX2", "AVX2")]
KNOWN = [Kernels(*pair) for pair in _PAIRS]


def candidates(status: dict[str, Any]) -> list[Kernels]:
    """Those that a run with this status may have been trained with, widest first. UsageError: it was trained on another
    kind of system, or with kernels that nobody gets unasked."""
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
        raise UsageError(f"It was trained with kernels that no processor takes unasked: {recorded}.")
    return found


def on_amd() -> bool:
    """Whether MKL takes the kernels for AMD here unasked."""
    return "Intel" not in provenance.cpuinfo("vendor_id")
