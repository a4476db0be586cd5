"""The parts of the Slurm engine that need no Slurm: options, waves, the copy of the code, reading the queue."""

import os
import signal
import unittest.mock
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from cds_lib.errors import UsageError
from cds_lib.study import cli
from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.commands import study
from cds_lib.study.engines import execute as module
from cds_lib.study.engines import provenance, runner, slurm_engine, slurm_jobs
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.errors import RunError
from cds_lib.study.files import write_json
from cds_lib.study.plan import settings
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store


def spec(seed: int, parent: RunSpec | None = None) -> RunSpec:
    return replace(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), parent=parent)


def answers(folder, monkeypatch, text="", code=0):
    """Put a squeue that prints `text` first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "answer").write_text(text)
    script = folder / "squeue"
    script.write_text(f"#!/bin/sh\necho \"$@\" >> '{folder}/asked'\ncat '{folder}/answer'\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def note(store, name, *run_ids):
    write_json(slurm_jobs.wave(store, name), {"runs": list(run_ids)})


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_what_submitit_takes():
    assert set(slurm_engine.OPTIONS) <= submitit.SlurmExecutor._valid_parameters()
    given = ["partition=gpu", "time=90", "gpus-per-node=2", "mem=32G", "constraint=a100&80g", "account= me "]
    taken = {"partition": "gpu", "time": 90, "gpus_per_node": 2, "mem": "32G", "constraint": "a100&80g"}
    assert slurm_engine.parse_options(given) == {**taken, "account": "me"} and slurm_engine.parse_options([]) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("partitoin=gpu", "--slurm has no option 'partitoin': choose from time, "),
        ("dependency=afterany:1", "no option 'dependency'"),
        ("time", "wants KEY=VALUE, such as time=..., not 'time'"),
        ("mem=", "wants KEY=VALUE"),
        ("qos=a\n#SBATCH --mail-user=b", "wants KEY=VALUE"),
        ("time=4:00:00", "--slurm time must be a whole number of minutes, 1 or more, not '4:00:00'"),
        ("cpus_per_task=0", "--slurm cpus_per_task must be a whole number, 1 or more"),
        ("time=٣", "must be a whole number"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(given, sentence):
    with pytest.raises(UsageError) as caught:
        slurm_engine.parse_options([given])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--slurm", "time=5"], "add --engine slurm"), (["--engine", "slurm"], "There is no Slurm here (no sbatch)")],
)
def test_the_command_refuses_before_anything_is_begun(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["run-all", "--only", "00_start_here", "--results", str(tmp_path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not list(tmp_path.glob("runs/*")) and not (tmp_path / "slurm").exists()


# -- waves -------------------------------------------------------------------------------------------------------------


A, B = spec(0), spec(1)
CHILD, SECOND = spec(2, A), spec(3, B)
GRANDCHILD = spec(4, CHILD)


@pytest.mark.parametrize(
    ("specs", "alive", "trained", "waves", "orphans"),
    [
        # A run is in the wave after that of its parent.
        ([A, CHILD, GRANDCHILD, B, SECOND], (), (), [[A, B], [CHILD, SECOND], [GRANDCHILD]], []),
        # A trained parent needs no wait. A queued run is not submitted again, and runs after it wait for its job.
        ([CHILD, B, SECOND], (), (A,), [[CHILD, B], [SECOND]], []),
        ([A, CHILD, B, SECOND], (A, B), (), [[CHILD, SECOND]], []),
        ([A, B], (A, B), (), [], []),
        # Runs whose parent will not be trained are given up.
        ([CHILD, GRANDCHILD, B], (), (), [[B]], [CHILD, GRANDCHILD]),
    ],
)
def test_waves(specs, alive, trained, waves, orphans):
    planned, given_up = slurm_engine.waves(specs, [run.id for run in alive], [run.id for run in trained].__contains__)
    assert planned == waves and given_up.keys() == {run.id for run in orphans}
    for run in orphans:
        assert f"It starts from run {run.parent.id}" in given_up[run.id]


# -- the code ----------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_the_whole_package_of_one_version(store, tmp_path, monkeypatch):
    taken = slurm_jobs.snapshot(store)
    assert slurm_jobs.snapshot(store) == taken  # the same code is copied once
    assert os.listdir(tmp_path / "slurm" / "code") == [taken.name]
    originals = {p.relative_to(ROOT) for p in (ROOT / "cds_lib").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    copies = {p.relative_to(taken) for p in taken.rglob("*") if p.is_file()}
    assert copies == originals | {Path(provenance.VERSION_FILE)}
    assert all((taken / name).read_bytes() == (ROOT / name).read_bytes() for name in originals)
    monkeypatch.setattr(slurm_jobs.provenance, "code_version", lambda: "abc+dirty")
    other = slurm_jobs.snapshot(store)
    assert other != taken and (other / provenance.VERSION_FILE).read_text() == "abc+dirty\n"
    (other / "cds_lib" / "new.py").write_text("")
    monkeypatch.setattr(slurm_jobs.cds_lib, "__file__", str(other / "cds_lib" / "__init__.py"))
    assert slurm_jobs.snapshot(store) not in (taken, other)


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_the_newest_job_that_lives_stands_for_a_run(store, tmp_path, monkeypatch):
    note(store, "cds-b", "one", "two")  # the older job, whose run was cancelled
    note(store, "cds-a", "two")
    older = "cds-b|3|1|CANCELLED|None\ncds-b|3|0|TIMEOUT|None\ncds-b|3|0|RUNNING|None\n"
    answers(tmp_path / "bin", monkeypatch, f"cds-a|12|N/A|PENDING|Dependency\n{older}")
    found = slurm_jobs.jobs(store)
    assert (found["two"].id, found["two"].words) == ("12", "Slurm job 12 (PENDING, Dependency)")
    assert (found["one"].id, found["one"].words) == ("3_0", "Slurm job 3_0 (RUNNING)")
    assert "--name cds-a,cds-b" in (tmp_path / "bin" / "asked").read_text()
    assert slurm_jobs.cancel_command(found.values()) == "scancel 3 12"
    answers(tmp_path / "bin", monkeypatch, "cds-a|12|0|FAILED|None\ncds-b|3|1|CANCELLED|None\n")
    assert slurm_jobs.jobs(store)["two"].id == "12_0"
    answers(tmp_path / "bin", monkeypatch, "cds-b|3|0|CANCELLED|None\n")
    assert slurm_jobs.alive(store) == {}
    slurm_jobs.forget_ended(store)
    assert os.listdir(tmp_path / "slurm" / "waves") == []


def test_a_silent_slurm_is_no_ended_job(store, tmp_path, monkeypatch, capsys):
    answers(tmp_path / "bin", monkeypatch, code=1)
    assert slurm_jobs.jobs(store) == {}  # nothing was submitted from this store, so Slurm is not asked
    note(store, "cds-a", "one")
    with pytest.raises(RunError, match="Slurm does not answer"):
        slurm_jobs.forget_ended(store)
    assert os.listdir(tmp_path / "slurm" / "waves") == ["cds-a.json"]
    (tmp_path / "slurm" / "waves" / "cds-b.json").write_text("{")
    with pytest.raises(RunError, match=r"cds-b\.json cannot be read"):
        slurm_jobs.jobs(store)


def test_a_folder_whose_name_slurm_would_take_for_a_pattern_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_engine.shutil, "which", lambda name: name)
    with pytest.raises(UsageError, match="Slurm reads % in a path as a pattern"):
        SlurmEngine({}).submit([spec(0)], Store(tmp_path / "100%a"), tmp_path, None)


def test_a_refused_submission_keeps_why_a_run_failed(tmp_path, monkeypatch):
    """A retried run loses its failed state before the submission, because the job may write its status at once."""
    store, run, seen = Store(tmp_path), spec(0), []

    class Refusing:
        def __init__(self, *arguments, **options):
            self.update_parameters = lambda **options: None

        def submit_array(self, trainings):
            seen.append(store.status(run.id)["state"])
            raise RuntimeError("sbatch: error: invalid partition specified: nowhere")

    monkeypatch.setattr(slurm_engine.submitit, "SlurmExecutor", Refusing)
    store.write_status(run.id, state="failed", error="The loss became nan.")
    with pytest.raises(UsageError, match="invalid partition"):
        SlurmEngine({})._submit_array([run], [None], store, tmp_path, [])
    assert seen == ["interrupted"]
    assert store.status(run.id) == {"state": "failed", "error": "The loss became nan."}


def test_waiting_outlasts_a_silent_slurm(tmp_path, monkeypatch, capsys):
    store, run = Store(tmp_path), spec(0)
    store.write_status(run.id, state="failed", error="The loss became nan.")
    note(store, "cds-a", run.id)
    replies = [RunError("Slurm does not answer (down): try again."), RunError("again"), {}]
    monkeypatch.setattr(slurm_jobs, "jobs", unittest.mock.Mock(side_effect=replies))
    monkeypatch.setattr(slurm_engine, "_SHORTEST_PAUSE", 0.0)
    assert SlurmEngine({}).wait([run], store, Progress(1, 0)) == {run.id: "The loss became nan."}
    said = capsys.readouterr().out
    assert said.count("Slurm does not answer") == 1 and "FAILED: The loss became nan." in said


def test_a_job_that_ran_without_its_parents_weights_runs_no_longer(tmp_path, monkeypatch, capsys):
    store, child = Store(tmp_path), spec(1, spec(0))
    progress, running = Progress(1, 0), []
    states = iter(["RUNNING", "PENDING", "RUNNING", "FAILED"])

    def jobs(store):
        running.append(list(progress.running))
        return {child.id: slurm_jobs.Job("7", next(states), "None", tmp_path / "log")}

    monkeypatch.setattr(slurm_jobs, "jobs", jobs)
    monkeypatch.setattr(slurm_engine, "_SHORTEST_PAUSE", 0.0)
    failed = SlurmEngine({}).wait([child], store, progress)
    assert "which has failed" in failed[child.id] and "NOT STARTED" in capsys.readouterr().out
    assert running == [[], [child.id], [], [child.id]]  # not running while requeued
    assert progress.running == {} and progress.done == 1


def test_a_run_on_another_node_is_not_interrupted(tmp_path, monkeypatch):
    """The lock may be invisible from this node, so the state in Slurm counts."""
    store, run = Store(tmp_path), spec(0)
    store.write_status(run.id, state="running")
    note(store, "cds-a", run.id)
    answers(tmp_path / "bin", monkeypatch, "cds-a|7|0|RUNNING|None\n")
    assert store.status(run.id)["state"] == "interrupted"
    line = study._state_line(run, store, slurm_jobs.alive(store)[run.id])
    log = tmp_path / "slurm" / "logs" / "7_0_0_log.out"
    assert line == f"running {run.id} {run.label}, epoch 0/{run.budget.epochs}, Slurm job 7_0 (RUNNING), log {log}"


def test_the_local_engine_leaves_slurms_runs_alone(tmp_path, monkeypatch):
    store, run = Store(tmp_path), spec(0)
    note(store, "cds-a", run.id)
    answers(tmp_path / "bin", monkeypatch, "cds-a|7|0|PENDING|Priority\n")
    with pytest.raises(UsageError, match="Slurm has 1 of these runs queued or running: .*scancel 7"):
        runner.train_missing(runner.Plan((), (run,), ()), store, tmp_path, LocalEngine())
    assert not store.run_dir(run.id).exists()


# -- the job -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cancelled", "state"), [(True, "interrupted"), (False, "failed")])
def test_a_training_that_loses_its_workers_to_scancel_is_interrupted(cancelled, state, tmp_path, monkeypatch):
    store, run = Store(tmp_path), spec(0)

    def fail(*arguments, **options):
        if cancelled:
            os.kill(os.getpid(), signal.SIGTERM)
        store.write_status(run.id, state="failed", error="A worker is killed by signal: Terminated.")
        raise RunError("A worker is killed by signal: Terminated.")

    monkeypatch.setattr(module, "execute", fail)
    monkeypatch.setattr(slurm_engine, "send_output_to", lambda path: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RunError, match="Terminated"):
            slurm_engine.Training(run, store, tmp_path, 1, False)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert store.status(run.id)["state"] == state
