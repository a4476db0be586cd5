"""A sweep for the fault tests: the smallest one with a teacher and a student, run as a user would run it.

`python sweeps.py RUN-ALL-ARGUMENTS` is `python -m cds_lib` with an extra table, `faults`, of four one-second runs.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from cds_lib.study import cli
from cds_lib.study.plan import protocols, settings
from cds_lib.study.plan.table import Table, cell
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from run_folders import write_run

ROOT = Path(__file__).resolve().parents[1]
TIMINGS = {"seconds", "images_per_second", "peak_memory_mib"}


def small(spec, epochs=3):
    return replace(spec, budget=replace(spec.budget, train_size=40, val_size=20, batch_size=20, epochs=epochs))


def tiny(method, seed=0, epochs=2, **options):
    spec = small(settings.supervised("smoke", "cifar10", "resnet18", method, seed), epochs)
    return replace(spec, options={**spec.options, **options})


def untimed(row):
    """Return the row without measured times."""
    return {name: value for name, value in row.items() if name not in TIMINGS}


def wait_until(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def cells(profile):
    """Return the cells: KD with its teacher, and two runs without a parent."""
    found = []
    for method in ("baseline", "dsn", "kd"):
        run = small(settings.supervised("smoke", "cifar10", "resnet18", method))
        if method == "kd":
            teacher = small(settings.supervised("smoke", "cifar10", "resnet18", "cds"), 2)
            run = replace(run, setting="distill", parent=teacher)
        found.append(cell(run, protocols.SEEDS[profile], setting="supervised"))
    return found


TABLE = Table("Faults", "Does it survive?", cells, note="nothing published", name="faults")
RUNS = TABLE.runs("smoke", (0,))


def history(epochs, top1):
    """Return a history.csv as a training writes it."""
    rows = [f"{n},0.1,{9.0 - n},900.0,{top1 if n == epochs else ''},1.5\n" for n in range(1, epochs + 1)]
    return "".join(["epoch,lr,train_loss,images_per_second,test_top1,seconds\n", *rows])


DATA = {"kind": "standin", "complete": False, "verified": False, "train": 40, "test": 20, "sha256": "0" * 64}
DATA["note"] = ""


def pretend(store, spec, number):
    """Write the files of a finished run with a top-1 of 10 + `number`, like those of a real training."""
    status = {"state": "done", "error": None, "started": "2026-01-02T10:00:00+00:00", "finished": None, "data": DATA}
    status |= {"machine": "Linux", "device": "cpu", "code": "0123456789ab", "versions": {"torch": "2.9"}}
    epochs = spec.budget.epochs
    metrics = {"test_top1_last": 10.0 + number, "test_top1_best": 12.0 + number, "epochs": epochs, "seconds": 4.5}
    folder = write_run(store, spec, metrics, status)
    (folder / "history.csv").write_text(history(epochs, 10.0 + number))
    (folder / "model.pt").write_bytes(b"weights")


def pretend_all(root):
    store = Store(root)
    store.open_for_writing()
    for number, spec in enumerate(RUNS):
        pretend(store, spec, number)
    return store


def start(results, *arguments, **options):
    """Start `run-all` on `results` in a new process group, with its output on a pipe."""
    command = [sys.executable, str(Path(__file__).resolve()), "run-all", "--only", "faults", "--results", str(results)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},  # workers import this file too
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(results, *arguments, **options):
    """Run `start` to its end and return (exit code, output)."""
    process = start(results, *arguments, **options)
    output, _ = process.communicate(timeout=200)
    assert "Traceback" not in output, output
    return process.returncode, output


if __name__ == "__main__":
    TABLES[TABLE.name] = TABLE
    sys.exit(cli.main())
