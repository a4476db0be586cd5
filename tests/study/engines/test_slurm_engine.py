"""What the Slurm engine decides without Slurm: options, waves, the copy of the code, the reading of the queue."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from cds_lib.errors import UsageError
from cds_lib.study import settings
from cds_lib.study.commands import study
from cds_lib.study.engines import provenance, runner, slurm_engine, slurm_jobs
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.errors import RunError
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store

ROOT = Path(__file__).resolve().parents[3]


def spec(seed: int, parent: RunSpec | None = None) -> RunSpec:
    return replace(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), parent=parent)


def answers(folder, monkeypatch, text="", code=0):
    """A squeue that says `text`, first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "answer").write_text(text)
    script = folder / "squeue"
    script.write_text(f"#!/bin/sh\necho \"$@\" >> '{folder}/asked'\ncat '{folder}/answer'\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_what_submitit_takes():
    assert set(slurm_engine.OPTIONS) <= submitit.SlurmExecutor._valid_parameters()
    given = ["partition=gpu", "time=90", "gpus-per-node=2", "mem=32G", "constraint=a100&80g", "account= me "]
    assert slurm_engine.parse_options(given) == {
        "partition": "gpu",
        "time": 90,
        "gpus_per_node": 2,
        "mem": "32G",
        "constraint": "a100&80g",
        "account": "me",
    }
    assert slurm_engine.parse_options([]) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("partitoin=gpu", "--slurm knows no 'partitoin': choose from time, "),
        ("dependency=afterany:1", "knows no 'dependency'"),
        ("", "knows no ''"),
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
    [
        (["--slurm", "time=5"], "add --engine slurm"),
        (["--engine", "slurm", "--slurm", "tiem=5"], "--slurm knows no 'tiem'"),
        (["--engine", "slurm"], "There is no Slurm here (no sbatch)"),
    ],
)
def test_the_command_refuses_before_anything_is_begun(arguments, sentence, tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "cds_lib", "run-all", "--only", "00_start_here", "--results", tmp_path, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, len(process.stderr.splitlines())) == (2, 1)
    assert sentence in process.stderr
    assert not list(tmp_path.glob("runs/*")) and not (tmp_path / "slurm").exists()


# -- waves -------------------------------------------------------------------------------------------------------------


def test_a_run_is_in_the_wave_after_the_run_it_starts_from():
    a, b = spec(0), spec(1)
    child, second = spec(2, a), spec(3, b)
    grandchild = spec(4, child)
    planned, orphans = slurm_engine.waves([a, child, grandchild, b, second], (), lambda run_id: False)
    assert planned == [[a, b], [child, second], [grandchild]]
    assert orphans == {}


def test_what_is_trained_or_queued_is_not_waited_for_or_submitted_again():
    a, b = spec(0), spec(1)
    child, second = spec(2, a), spec(3, b)
    planned, _ = slurm_engine.waves([child, b, second], (), lambda run_id: run_id == a.id)
    assert planned == [[child, b], [second]]
    planned, _ = slurm_engine.waves([a, child, b, second], {a.id, b.id}, lambda run_id: False)
    assert planned == [[child, second]]  # after the jobs of a and b
    assert slurm_engine.waves([a, b], {a.id, b.id}, lambda run_id: False) == ([], {})


def test_runs_whose_parent_will_not_be_trained_are_given_up():
    failed = spec(0)
    child = spec(1, failed)
    grandchild = spec(2, child)
    planned, orphans = slurm_engine.waves([child, grandchild, spec(3)], (), lambda run_id: False)
    assert planned == [[spec(3)]]
    assert orphans == {
        child.id: f"It starts from run {failed.id} (cifar10 resnet18 cds seed 0), which has failed.",
        grandchild.id: f"It starts from run {child.id} (cifar10 resnet18 cds seed 1), which has failed.",
    }


# -- the code ----------------------------------------------------------------------------------------------------------

SAY = "import cds_lib; from cds_lib.study.engines import provenance; print(cds_lib.__file__, provenance.code_version())"


def test_a_snapshot_is_the_whole_package_and_says_which_version_it_is(tmp_path):
    taken = slurm_jobs.snapshot(Store(tmp_path))
    assert slurm_jobs.snapshot(Store(tmp_path)) == taken  # the same code is copied once
    assert os.listdir(tmp_path / "slurm" / "code") == [taken.name]
    originals = {p.relative_to(ROOT) for p in (ROOT / "cds_lib").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    copies = {p.relative_to(taken) for p in taken.rglob("*") if p.is_file()}
    assert copies == originals | {Path(provenance.VERSION_FILE)}
    assert all((taken / name).read_bytes() == (ROOT / name).read_bytes() for name in originals)
    where, version = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=taken,
        env={**os.environ, "PYTHONPATH": str(taken)},
        capture_output=True,
        text=True,
    ).stdout.split(maxsplit=1)
    assert Path(where) == taken / "cds_lib" / "__init__.py"
    assert version.strip() == provenance.code_version()


def test_other_code_and_other_versions_are_other_snapshots(tmp_path, monkeypatch):
    taken = slurm_jobs.snapshot(Store(tmp_path))
    monkeypatch.setattr(slurm_jobs.provenance, "code_version", lambda: "abc+dirty")
    other = slurm_jobs.snapshot(Store(tmp_path))
    assert other != taken
    (other / "cds_lib" / "new.py").write_text("")
    monkeypatch.setattr(slurm_jobs.cds_lib, "__file__", str(other / "cds_lib" / "__init__.py"))
    assert slurm_jobs.snapshot(Store(tmp_path)) not in (taken, other)


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_a_store_from_which_nothing_was_submitted_does_not_ask_slurm(tmp_path, monkeypatch):
    answers(tmp_path / "bin", monkeypatch, code=1)
    assert slurm_jobs.jobs(Store(tmp_path)) == {}
    assert not (tmp_path / "bin" / "asked").exists()


def test_the_newest_job_that_lives_stands_for_a_run(tmp_path, monkeypatch):
    store = Store(tmp_path)
    slurm_jobs.record_wave(store, "cds-b", ["one", "two"])  # the older job, cancelled
    slurm_jobs.record_wave(store, "cds-a", ["two"])
    lines = [
        "cds-a|12|N/A|PENDING|Dependency",
        "cds-b|3|1|CANCELLED|None",
        "cds-b|3|0|TIMEOUT|None",
        "cds-b|3|0|RUNNING|None",
    ]
    answers(tmp_path / "bin", monkeypatch, "\n".join(lines) + "\n")
    found = slurm_jobs.jobs(store)
    assert (found["two"].id, found["two"].words) == ("12", "Slurm job 12 (PENDING, Dependency)")
    assert (found["one"].id, found["one"].words) == ("3_0", "Slurm job 3_0 (RUNNING)")
    assert "--name cds-a,cds-b" in (tmp_path / "bin" / "asked").read_text()
    assert slurm_jobs.cancel_command(found.values()) == "scancel 3 12"
    answers(tmp_path / "bin", monkeypatch, "cds-b|3|0|CANCELLED|None\n")
    assert slurm_jobs.alive(store) == {}
    slurm_jobs.forget_ended(store)
    assert os.listdir(tmp_path / "slurm" / "waves") == []


def test_a_silent_slurm_is_no_ended_job(tmp_path, monkeypatch, capsys):
    store = Store(tmp_path)
    slurm_jobs.record_wave(store, "cds-a", ["one"])
    answers(tmp_path / "bin", monkeypatch, code=1)
    with pytest.raises(RunError, match="Slurm does not answer"):
        slurm_jobs.forget_ended(store)
    assert os.listdir(tmp_path / "slurm" / "waves") == ["cds-a.json"]
    (tmp_path / "slurm" / "waves" / "cds-b.json").write_text("{")
    with pytest.raises(RunError, match=r"cds-b\.json cannot be read"):
        slurm_jobs.jobs(store)


def test_a_refused_submission_keeps_why_a_run_failed(tmp_path, monkeypatch):
    """What is tried again is no longer failed before Slurm has it, as its own status may come at once."""
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
    slurm_jobs.record_wave(store, "cds-a", [run.id])
    replies = iter([RunError("Slurm does not answer (down): try again."), RunError("again"), {}])

    def jobs(store):
        reply = next(replies)
        if isinstance(reply, RunError):
            raise reply
        return reply

    monkeypatch.setattr(slurm_jobs, "jobs", jobs)
    monkeypatch.setattr(slurm_engine, "_SHORTEST_PAUSE", 0.0)
    assert SlurmEngine({}).wait([run], store, Progress(1, 0, 1)) == {run.id: "The loss became nan."}
    said = capsys.readouterr().out
    assert said.count("Slurm does not answer") == 1 and "FAILED: The loss became nan." in said


def test_a_job_that_ran_without_its_parents_weights_runs_no_longer(tmp_path, monkeypatch, capsys):
    store, child = Store(tmp_path), spec(1, spec(0))
    log, running = tmp_path / "log", []
    replies = iter([slurm_jobs.Job("7", state, "None", log) for state in ("RUNNING", "PENDING", "RUNNING", "FAILED")])
    monkeypatch.setattr(slurm_jobs, "jobs", lambda store: {child.id: next(replies)})
    monkeypatch.setattr(slurm_engine, "_SHORTEST_PAUSE", 0.0)
    progress = Progress(1, 0, 0)
    monkeypatch.setattr(progress, "tick", lambda: running.append(list(progress.running)))
    failed = SlurmEngine({}).wait([child], store, progress)
    assert "which has failed" in failed[child.id] and "NOT STARTED" in capsys.readouterr().out
    assert [child.id] in running and [] in running  # while it was queued again
    assert progress.running == {} and progress.done == 1


def test_a_run_on_another_node_is_not_interrupted(tmp_path, monkeypatch):
    """Its lock may be invisible from here; what Slurm says counts."""
    store, run = Store(tmp_path), spec(0)
    store.write_status(run.id, state="running")
    slurm_jobs.record_wave(store, "cds-a", [run.id])
    answers(tmp_path / "bin", monkeypatch, "cds-a|7|0|RUNNING|None\n")
    assert store.status(run.id)["state"] == "interrupted"
    line = study._state_line(run, store, slurm_jobs.alive(store)[run.id])
    log = tmp_path / "slurm" / "logs" / "7_0_0_log.out"
    assert line == f"running {run.id} {run.label}, epoch 0/{run.budget.epochs}, Slurm job 7_0 (RUNNING), log {log}"


def test_the_local_engine_leaves_slurms_runs_alone(tmp_path, monkeypatch):
    store, run = Store(tmp_path), spec(0)
    slurm_jobs.record_wave(store, "cds-a", [run.id])
    answers(tmp_path / "bin", monkeypatch, "cds-a|7|0|PENDING|Priority\n")
    with pytest.raises(UsageError, match="Slurm has 1 of these runs queued or running: .*scancel 7"):
        runner.train_missing(runner.Plan((), (run,), ()), store, tmp_path, LocalEngine())
    assert not store.run_dir(run.id).exists()


# -- the job -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cancelled", "state"), [(True, "interrupted"), (False, "failed")])
def test_a_training_that_loses_its_workers_to_scancel_is_interrupted(cancelled, state, tmp_path, monkeypatch):
    from cds_lib.study.engines import execute as module

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


def test_a_job_without_the_weights_it_starts_from_leaves_no_trace(tmp_path):
    child = spec(1, spec(0))
    with pytest.raises(RunError, match=f"It starts from run {child.parent.id} .* which has failed"):
        slurm_engine.Training(child, Store(tmp_path), tmp_path, 1, False)()
    assert not list(tmp_path.iterdir())
