"""A sweep for the fault tests: the smallest with a teacher and a student, run as a user runs it.

`python sweeps.py RUN-ALL-ARGUMENTS` is `python -m cds_lib` with one more table, `faults`, of four runs of a second.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cds_lib import cli
from cds_lib.study import settings
from cds_lib.study.grids import Cell
from cds_lib.study.tables import TABLES, Table

ROOT = Path(__file__).resolve().parents[2]


def small(spec, epochs=3):
    return replace(spec, budget=replace(spec.budget, train_size=40, val_size=20, batch_size=20, epochs=epochs))


def build(profile, seeds):
    """KD and its teacher, and two runs that need nothing."""
    cells = []
    for method in ("baseline", "dsn", "kd"):
        runs = [small(settings.supervised("smoke", "cifar10", "resnet18", method, seed)) for seed in seeds]
        if method == "kd":
            teachers = [small(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), 2) for seed in seeds]
            runs = [
                replace(run, setting="distill", parent=teacher) for run, teacher in zip(runs, teachers, strict=True)
            ]
        names = ("cifar10", "resnet18")
        reference = None if method == "baseline" else (*names, "baseline", "supervised")
        cells.append(Cell(*names, method, "supervised", "test_top1_last", None, tuple(runs), reference))
    return cells


TABLE = Table("faults", "Faults", "Does it survive?", "nothing published", build)
RUNS = TABLE.runs("smoke", (0,))


def start(results, *arguments, **options):
    """`run-all` on `results` in a process group of its own, its output on a pipe."""
    command = [sys.executable, str(Path(__file__).resolve()), "run-all", "--only", "faults", "--results", str(results)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(results, *arguments, **options):
    """`start`, waited for; returns (exit code, output)."""
    process = start(results, *arguments, **options)
    output, _ = process.communicate(timeout=200)
    assert "Traceback" not in output, output
    return process.returncode, output


if __name__ == "__main__":
    TABLES[TABLE.name] = TABLE
    sys.exit(cli.main())
