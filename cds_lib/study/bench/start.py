"""What `run-all` costs around its own work, as whole processes: until training starts, and around a notebook.

start     from the start of `python -m cds_lib run-all` (the smoke profile's first table) until the first epoch of the
          first run, four steps, is on disk, so a little more than until the first step: Python, all imports, the server
          of processes, synthetic data, the network. Against it a bare `import torch, torchvision, timm,
          sklearn.datasets`, which that needs. Both are processes of their own; files are in the system's cache after
          the warm-up.
notebook  one notebook that only reads the committed results: its process, papermill, the kernel, saving and both HTML
          pages. Against it the time of its cells, as papermill recorded it: what is more is overhead.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat

from cds_lib.errors import RunError
from cds_lib.study.bench.timing import WARM_UP, Row, interleaved
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.pages import notebooks, render
from cds_lib.study.processes import environment

TABLE = "table1_cifar100"
NEEDED = "import torch, torchvision, timm, sklearn.datasets"
_GIVE_UP = 600.0  # seconds


def rows(rounds: int) -> Iterator[Row]:
    """Two rows."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        numbers = iter(range(10**6))
        times = interleaved(lambda: start(Path(folder) / str(next(numbers))), imports, rounds)
        yield Row("start", "until the first epoch", *times)
        results = committed(Path(folder) / "mini")
        times = [notebook(results) for _ in range(WARM_UP + rounds)][WARM_UP:]
    yield Row("start", "a notebook", *(statistics.median(column) for column in zip(*times, strict=True)))


def committed(results: Path) -> Path:
    """A copy of the committed runs, since a notebook writes tables and plots beside what it reads."""
    shutil.copytree(CHECKOUT / "results" / "mini" / "runs", results / "runs")
    return results


def start(results: Path) -> None:
    """Start the study in a new results folder, wait for its first epoch, stop it."""
    command = [sys.executable, "-m", "cds_lib", "run-all", "--only", TABLE, "--results", str(results)]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        began = time.monotonic()
        while not any(results.glob("runs/*/history.csv")):
            if process.poll() is not None or time.monotonic() - began > _GIVE_UP:
                raise RunError("The study that is measured did not come to train.")
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def imports() -> None:
    """A process that imports what training needs, and ends."""
    subprocess.run([sys.executable, "-c", NEEDED], check=True)


def notebook(results: Path) -> tuple[float, float]:
    """Seconds of a notebook with all that is around it, and of its cells."""
    parameters = {"profile": "mini", "results": str(results), "data_root": "", "seeds": "", "train": False}
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / "notebooks" / f"{TABLE}.ipynb"
        began = time.perf_counter()
        result = notebooks.execute(CHECKOUT / "notebooks" / f"{TABLE}.ipynb", executed, parameters)
        render.render_notebook(executed, Path(folder) / "html")
        seconds = time.perf_counter() - began
        if not result.ok:
            raise RunError(f"The notebook of the benchmark failed: {result.error}")
        return seconds, sum(_cell_seconds(executed))


def _cell_seconds(executed: Path) -> Iterator[float]:
    for cell in nbformat.read(executed, as_version=4).cells:
        ran = cell.metadata.get("papermill", {})
        if cell.cell_type == "code" and ran.get("start_time") and ran.get("end_time"):
            yield (datetime.fromisoformat(ran["end_time"]) - datetime.fromisoformat(ran["start_time"])).total_seconds()
