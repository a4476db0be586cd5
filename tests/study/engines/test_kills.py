"""A sweep that is killed repeatedly at random moments ends with the results of an undisturbed sweep.

It is killed as often as fits into a few seconds, at least twice. CDS_KILLS=50 sets the number of kills, and
CDS_KILLS_SEED=1 changes the moments.
"""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import sweeps
from cds_lib.study.files import is_locked
from cds_lib.study.store import Store

KILLS = int(os.environ.get("CDS_KILLS", "0"))
SEED = int(os.environ.get("CDS_KILLS_SEED", "0"))
SECONDS = 8.0

pytestmark = pytest.mark.xdist_group("long")  # starts early, with test_golden


def outcome(results):
    """Return all results of a sweep as text, without measured times."""
    store = Store(results)
    found = {path.name: path.read_bytes() for path in sorted((results / "tables").iterdir())}
    written = {f"{name}.{kind}" for name in ("faults", "summary") for kind in ("csv", "md", "tex")}
    assert found.keys() == {*written, "comparisons.csv"}
    for spec in sweeps.RUNS:
        folder = store.run_dir(spec.id)
        metrics = json.loads((folder / "metrics.json").read_text())
        found[f"{spec.id} metrics"] = json.dumps(sweeps.untimed(metrics))
        with open(folder / "history.csv", newline="") as file:
            found[f"{spec.id} history"] = [sweeps.untimed(row) for row in csv.DictReader(file)]
        found |= {f"{spec.id} {name}": (folder / name).read_bytes() for name in ("spec.json", "split.npz")}
        assert store.status(spec.id)["state"] == "done"
        assert "Traceback" not in (folder / "log.txt").read_text()
    assert not list(results.rglob(".*.part"))
    return found


def training(results):
    """Return the process ids of the workers that hold a run now."""
    locks = [lock for lock in results.glob("runs/*/.lock") if is_locked(lock)]
    return [int(words[1]) for words in (lock.read_text().split() for lock in locks) if len(words) > 1]


def members(group):
    """Return the living processes of a process group, or its leader alone without /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # the process has just ended
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found) or [group]


def begun(process, results):
    """Wait until a run is being trained (or the sweep has ended) and return the time."""
    sweeps.wait_until(lambda: training(results) or process.poll() is not None, 120)
    return time.monotonic()


def shoot(process, results, kind, chance):
    """Send SIGKILL to the whole group, the parent, a worker, or any process of the group."""
    workers = training(results)
    if kind == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "worker" and workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    elif kind == "any":
        os.kill(chance.choice(members(process.pid)), signal.SIGKILL)
    else:
        process.kill()


def test_a_sweep_that_is_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    chance = random.Random(SEED)
    process = sweeps.start(tmp_path / "undisturbed", "--jobs", "2")
    first = begun(process, tmp_path / "undisturbed")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    expected = outcome(tmp_path / "undisturbed")

    began, kills, finished = time.monotonic(), [], 0
    training_takes = began - first
    results = tmp_path / "killed"
    while len(kills) < KILLS or (not KILLS and (time.monotonic() - began < SECONDS or len(kills) < 2)):
        process = sweeps.start(results, "--jobs", "2", "--retry-failed")
        kind = chance.choice(("group", "group", "parent", "parent", "worker", "any"))
        if chance.random() < 0.9:  # otherwise it is killed while it starts
            begun(process, results)
        with contextlib.suppress(subprocess.TimeoutExpired):
            missing = [spec for spec in sweeps.RUNS if not Store(results).is_done(spec.id)]
            process.wait(chance.uniform(0, training_takes * len(missing) / len(sweeps.RUNS)))
        if process.poll() is None:
            shoot(process, results, kind, chance)
            kills.append(kind)
            print(f"{len(kills)}: {kind}", end=", ", flush=True)
        output, _ = process.communicate(timeout=200)
        assert "Traceback" not in output, output
        sweeps.wait_until(lambda results=results: not training(results), 30)  # no worker outlives its sweep
        if process.returncode == 0:
            assert outcome(results) == expected
            finished += 1
            results = tmp_path / f"killed {finished}"
    code, output = sweeps.finish(results, "--jobs", "2", "--retry-failed")
    assert code == 0, output
    assert outcome(results) == expected
    print(f"{finished + 1} sweeps ended as the undisturbed one")
