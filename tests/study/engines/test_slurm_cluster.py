"""The Slurm engine on a real one-node Slurm: jobs outlive their submitter, are cancelled and requeued."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sweeps
from cds_lib.study import cli
from cds_lib.study.engines import slurm_engine, slurm_jobs
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.files import write_json
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from sweeps import wait_until

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.usefixtures("slurm"), pytest.mark.xdist_group("slurm")]


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Make the engine check the queue at least every half second."""
    monkeypatch.setattr(slurm_engine, "_LONGEST_PAUSE", 0.5)


EPOCHS = 300  # takes some seconds, long enough to be cancelled


def tiny(method, seed=0, epochs=1, **options):
    spec = sweeps.tiny(method, seed, epochs, **options)
    return replace(spec, budget=replace(spec.budget, eval_every=1000))


ENGINE = SlurmEngine({"time": 10}, parallelism=2)


def submit(specs, store):
    return ENGINE.submit(specs, store, Path("none"), Progress(len(specs), 0))


def slurm(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


SUBMIT = """
import json, sys
from pathlib import Path
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store
specs = [RunSpec.from_dict(spec) for spec in json.loads(Path(sys.argv[2]).read_text())["specs"]]
engine, store, progress = SlurmEngine({"partition": "main"}, 2), Store(sys.argv[1]), Progress(len(specs), 0)
engine.submit(specs, store, Path("none"), progress)
print("all submitted", flush=True)
engine.wait(specs, store, progress)
"""


def test_jobs_outlive_their_submitter_and_run_the_code_that_was_submitted(tmp_path, capsys):
    """A process submits three runs in two waves and is killed; then its checkout is broken."""
    checkout = tmp_path / "a checkout"
    shutil.copytree(ROOT / "cds_lib", checkout / "cds_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", checkout)  # because imports write __pycache__ beside the code
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "submitted"]):
        slurm(*git, *command)
    commit = slurm(*git, "rev-parse", "--short=12", "HEAD").strip()
    store = Store(tmp_path / "some results")
    store.open_for_writing()
    teacher, broken = tiny("baseline"), tiny("cds", taps=[9])
    orphan = replace(tiny("baseline", seed=3), parent=broken)
    specs = [teacher, broken, orphan]
    write_json(tmp_path / "specs.json", {"specs": [spec.to_dict() for spec in specs]})

    slurm("scontrol", "update", "PartitionName=main", "State=DOWN")  # jobs are queued, but none starts
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(store.root), str(tmp_path / "specs.json")],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = iter(submitter.stdout.readline, "all submitted\n")
    first, second = [int(re.search(r"as Slurm job (\d+)", line)[1]) for line in said if "Submitted" in line]
    submitter.kill()
    submitter.wait()
    (checkout / "cds_lib" / "study" / "engines" / "execute.py").write_text(
        "raise SystemExit('edited after the submission')\n"
    )
    slurm(*git, "commit", "-qam", "edited")
    found = slurm_jobs.alive(store)
    assert [found[spec.id].id for spec in specs] == [f"{first}_0", f"{first}_1", str(second)]
    assert {job.state for job in found.values()} == {"PENDING"}
    assert f"Dependency=afterany:{first}_1" in slurm("scontrol", "show", "job", str(second))

    slurm("scontrol", "update", "PartitionName=main", "State=UP")
    capsys.readouterr()
    assert submit(specs, store) == {}
    failed = ENGINE.wait(specs, store, Progress(3, 0))
    assert failed.keys() == {broken.id, orphan.id} and "taps must be increasing stages" in failed[broken.id]
    assert failed[orphan.id] == f"It starts from run {broken.id} ({broken.label}), which has failed."
    output = capsys.readouterr().out
    assert "Slurm has 3 runs queued or running already." in output and "Submitted" not in output
    assert store.status(orphan.id) == {} and store.status(teacher.id)["code"] == commit
    assert orphan.parent.label in slurm_jobs.log_path(store, str(second)).read_text()  # its log gives the reason too


def test_a_cancelled_run_and_one_that_is_queued_again_end_like_an_undisturbed_one(tmp_path, capsys):
    store, spec = Store(tmp_path / "results"), tiny("baseline", epochs=EPOCHS)
    child = replace(tiny("baseline", seed=1), parent=spec)
    store.open_for_writing()

    def epochs():
        return len(store.history(spec.id))

    assert submit([spec], store) == {}
    wait_until(lambda: epochs() >= 1)
    cancelled = slurm_jobs.alive(store)[spec.id]
    assert cancelled.state == "RUNNING" and store.status(spec.id)["state"] == "running"
    slurm("scancel", cancelled.id)
    failed = ENGINE.wait([spec], store, Progress(1, 0))
    assert f"Slurm job {cancelled.id} (CANCELLED) has ended, its log is {cancelled.log}" in failed[spec.id]
    assert store.status(spec.id)["state"] == "interrupted"
    before = epochs()
    assert 1 <= before < EPOCHS

    assert submit([spec, child], store) == {}
    wait_until(lambda: epochs() > before)
    job = slurm_jobs.alive(store)[spec.id]
    slurm("scancel", "--signal=USR2", job.id)  # Slurm sends this before preemption or the time limit
    wait_until(lambda: slurm_jobs.alive(store)[spec.id].state == "PENDING")
    assert epochs() < EPOCHS and store.status(spec.id)["state"] == "interrupted"
    assert slurm_jobs.alive(store)[child.id].reason == "Dependency"  # still waiting
    assert ENGINE.wait([spec, child], store, Progress(2, 0)) == {}
    assert slurm_jobs.jobs(store)[spec.id].id == job.id  # the same job, started twice
    assert store.status(child.id)["started"] >= store.status(spec.id)["finished"]
    assert "Requeued job" in (store.run_dir(spec.id) / "log.txt").read_text()

    undisturbed = Store(tmp_path / "undisturbed")
    undisturbed.open_for_writing()
    execute(spec, undisturbed, Path("none"))
    histories = [s.history(spec.id).drop(columns=["seconds", "images_per_second"]) for s in (store, undisturbed)]
    assert histories[0].equals(histories[1])
    weights = [torch.load(s.model(spec.id), weights_only=True)["method"] for s in (store, undisturbed)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def run_all(store, *arguments):
    options = ["--engine", "slurm", "--slurm", "time=10", "--slurm", "cpus-per-task=1", *arguments]
    interruptible = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    return sweeps.start(store.root, *options, **interruptible)


def test_the_command_can_be_left_and_given_again(store, monkeypatch, capsys):
    """One run of the table is missing; the others count as failed."""
    spec, *others = sweeps.RUNS
    for other in others:
        store.write_status(other.id, state="failed", error="Not in this test.")
    slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    refused, _ = (process := run_all(store, "--slurm", "partition=nowhere")).communicate(timeout=120)
    assert process.returncode == 2
    assert "error: Slurm rejects the job (" in refused and "invalid partition" in refused.lower()
    assert slurm_jobs.jobs(store) == {}

    process = run_all(store)
    wait_for = iter(process.stdout.readline, "")
    number = next(line for line in wait_for if line.startswith("Submitted 1 run as Slurm job ")).split()[-1][:-1]
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.splitlines()[-1].endswith(f"shows them, scancel {number} cancels them.")
    with store.lock():
        pass  # no process holds the lock
    monkeypatch.setitem(TABLES, "faults", sweeps.TABLE)
    assert cli.main(["status", "--only", "faults", "--results", str(store.root)]) == 0
    shown = capsys.readouterr().out
    assert f"queued {spec.id} {spec.label}, epoch 0/3, Slurm job {number} (PENDING, PartitionDown), log " in shown
    assert str(slurm_jobs.log_path(store, number)) in shown

    commands = [run_all(store) for _ in range(2)]  # both at once, waiting for the same job
    slurm("scontrol", "update", "PartitionName=main", "State=UP")
    for again in commands:
        output, _ = again.communicate(timeout=300)
        assert again.returncode == 1, output
        assert "Slurm has 1 run queued or running already." in output and "Submitted" not in output
        assert re.search("^Failed: 3 runs, .*0 reports", output, re.MULTILINE)
    assert store.is_done(spec.id) and all((store.root / f).exists() for f in ("index.html", "tables/faults.csv"))
