"""Runs on the local engine are trained, fail, are killed and resumed, with tiny budgets and real processes."""

import io
import json
import os
import resource
import signal
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cds_lib.study.engines import execute as execution
from cds_lib.study.engines import provenance, setup
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from sweeps import tiny, wait_until


def train(specs, store, jobs=2, processes=1):
    return LocalEngine(jobs, processes).run(specs, store, Path("no data"), Progress(len(specs), 0), print)


def test_runs_are_trained_recorded_and_paired(store, capsys):
    baseline, cds, broken = tiny("baseline"), tiny("cds"), tiny("cds", taps=[9])
    leftover = store.run_dir(baseline.id) / ".checkpoint.pt.1.part"  # left by a killed process
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    failed = train([baseline, cds, broken], store)
    assert list(failed) == [broken.id] and "taps must be increasing stages" in failed[broken.id]
    assert store.status(broken.id).items() >= {"state": "failed", "error": failed[broken.id]}.items()
    assert not store.is_done(broken.id)
    for spec in (baseline, cds):
        files = set(os.listdir(store.run_dir(spec.id))) - {".lock", "log.txt", "correct.npz"}
        assert files == {"spec.json", "status.json", "history.csv", "metrics.json", "split.npz", "model.pt"}
        assert json.loads((store.run_dir(spec.id) / "spec.json").read_text()) == spec.to_dict()
        status = store.status(spec.id)
        assert (status["state"], status["data"]["kind"]) == ("done", "standin")
        assert status["versions"].keys() >= {"torch", "timm", "python"}
        assert status["instructions"] == provenance.instructions()
        history, metrics = store.history(spec.id), store.metrics(spec.id)
        assert list(history["epoch"]) == [1, 2]
        assert metrics["test_top1_last"] == pytest.approx(history["test_top1"].iloc[-1])
        assert metrics["test_top1_best"] == pytest.approx(history["test_top1"].max())
        assert 0 <= metrics["val_top1_last"] <= 100
    # The same seed draws the same training images.
    assert len({(store.run_dir(spec.id) / "split.npz").read_bytes() for spec in (baseline, cds)}) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [sum(word in line for line in lines) for word in ("top-1", "FAILED")] == [2, 1]


def sweep(store):
    """Train one run on two processes."""
    train([tiny("cds", epochs=12)], store, jobs=1, processes=2)


def test_a_killed_sweep_takes_the_processes_of_its_runs_with_it(server, tmp_path):
    """For runs on one process see `test_kills`."""
    spec, store = tiny("cds", epochs=12), Store(tmp_path / "results")
    process = server.Process(target=sweep, args=(store,))
    process.start()
    wait_until(lambda: len(store.history(spec.id)) >= 2)
    assert store.status(spec.id)["state"] == "running"
    process.kill()
    process.join()
    wait_until(lambda: store.status(spec.id)["state"] == "interrupted", 60)
    assert len(store.history(spec.id)) < 12 and not store.is_done(spec.id)


def test_a_worker_that_is_killed_is_a_failure_and_the_next_run_goes_on(store):
    victim, other = tiny("baseline", epochs=200), tiny("baseline", seed=1)

    class Killer(Progress):
        def advance(self, spec, epochs_done):
            super().advance(spec, epochs_done)
            if spec == victim and epochs_done:
                owner = (store.run_dir(victim.id) / ".lock").read_text().split()[1]
                os.kill(int(owner), signal.SIGKILL)

    failed = LocalEngine(1).run([victim, other], store, Path("none"), Killer(2, 0), print)
    assert "died (signal 9)" in failed[victim.id] and store.status(victim.id)["state"] == "failed"
    assert store.is_done(other.id)


def test_a_server_that_dies_while_it_starts_a_run_is_replaced(tmp_path, monkeypatch):
    """A signal cannot hit this instant reliably, so the test raises the error that the end of the server causes."""
    start, died = BaseProcess.start, []

    def dying(process):
        if not died:
            died.append(process)
            raise EOFError
        start(process)

    monkeypatch.setattr(BaseProcess, "start", dying)
    store, spec = Store(tmp_path), tiny("baseline", epochs=1)
    assert train([spec], store, jobs=1) == {}
    assert died and store.is_done(spec.id)


def test_a_full_disk_is_one_sentence_and_nothing_half_written(tmp_path):
    """A limit on file sizes, too small for the checkpoint, stands in for the full disk."""
    store, spec = Store(tmp_path), tiny("baseline")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(RunError, match="free space"):
            execute(spec, store, Path("none"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.status(spec.id)["state"] == "failed"
    assert not [name for name in os.listdir(store.run_dir(spec.id)) if name.endswith((".pt", ".part"))]
    assert execute(spec, store, Path("none"))["epochs"] == 2  # with enough space it succeeds


def test_a_run_waits_for_its_parent_and_is_given_up_without_it(store, capsys):
    teacher, broken = tiny("baseline", epochs=1), tiny("cds", taps=[9], epochs=1)
    child = replace(tiny("baseline", seed=1, epochs=1), parent=teacher)
    orphan = replace(tiny("baseline", seed=2, epochs=1), parent=broken)
    grandchild = replace(tiny("baseline", seed=3, epochs=1), parent=orphan)
    assert grandchild.lineage == (broken, orphan, grandchild)
    failed = train([broken, teacher, child, orphan, grandchild], store)
    assert failed.keys() == {broken.id, orphan.id, grandchild.id}
    assert f"starts from run {broken.id}" in failed[orphan.id]
    assert store.status(orphan.id) == {}  # not started, so it is tried again once its parent exists
    assert store.status(child.id)["started"] >= store.status(teacher.id)["finished"]
    assert capsys.readouterr().out.count("NOT STARTED") == 2


def test_a_labelled_fraction_is_class_balanced_and_the_same_for_every_method(store, monkeypatch):
    """The baseline sees only the labelled images. CDS sees all images, with label -1 for unlabelled ones."""
    seen = {}

    class Recorder(setup.Batches):
        def __init__(self, images, labels, **options):
            seen[options["views"]] = (images.numpy(), labels.numpy())
            super().__init__(images, labels, **options)

    monkeypatch.setattr(setup, "Batches", Recorder)
    for method in ("baseline", "cds_simclr"):
        spec = settings.semi_supervised("smoke", "cifar10", method, 20, seed=0)
        spec = replace(spec, budget=replace(spec.budget, train_size=200, epochs=1, batch_size=20))
        execute(spec, store, Path("none"))
        saved = np.load(store.run_dir(spec.id) / "split.npz")
        assert (len(saved["labelled"]), len(saved["train"])) == (40, 200)
        assert set(saved["labelled"]) <= set(saved["train"])
    (few, few_labels), (many, many_labels) = seen[1], seen[2]
    assert np.bincount(few_labels).tolist() == [4] * 10 and len(many) == 200
    known = many_labels >= 0
    assert np.array_equal(many[known], few) and np.array_equal(many_labels[known], few_labels)


@pytest.mark.parametrize("percent", [10, 20, 30, 40])
def test_the_matched_baseline_takes_as_many_steps_as_a_training_on_all_images(percent):
    methods = ("baseline", "baseline_matched", "cds_simclr")
    specs = {method: settings.semi_supervised("paper", "cifar100", method, percent, 0) for method in methods}
    epochs = {method: spec.budget.epochs for method, spec in specs.items()}
    assert epochs["baseline"] == epochs["cds_simclr"] == 300
    assert epochs["baseline_matched"] * percent / 100 == pytest.approx(300, rel=0.005)
    assert {spec.method for spec in specs.values()} == {"baseline", "cds_simclr"}
    drops = specs["baseline_matched"].budget.milestones
    assert [drop * percent / 100 for drop in drops] == pytest.approx([90, 180, 280], rel=0.01)


@pytest.mark.parametrize("method", ["sskd", "cds_kd"])
def test_a_student_gets_its_trained_teacher_and_keeps_its_own_weights_paired(method, store):

    def shrink(spec):
        budget = replace(spec.budget, train_size=40, batch_size=20, epochs=1)
        return replace(spec, model="resnet18", budget=budget, parent=spec.parent and shrink(spec.parent))

    spec = shrink(settings.distilled("smoke", "cifar10", "resnet18", method, 0))
    for run in spec.lineage:
        execute(run, store, Path("none"))
    assert store.is_done(spec.id)
    built = []
    for run in (spec, tiny("baseline")):
        torch.manual_seed(5)
        built.append(setup.build_method(run, 10, store))
    student, baseline = built
    trained = torch.load(store.model(spec.parent.id), weights_only=True)["method"]
    assert all(torch.equal(student.teacher.state_dict()[key], value) for key, value in trained.items())
    mine, plain = student.backbone.state_dict(), baseline.backbone.state_dict()
    assert all(torch.equal(mine[key], value) for key, value in plain.items())
    if method == "sskd":
        assert [run.method for run in spec.lineage] == ["baseline", "sskd_teacher", "sskd"]


def test_the_records_of_a_run_that_is_trained_again_stay_whole_until_the_new_ones_are(tmp_path, monkeypatch):
    """Stopped after one of two epochs, the run still has its old records; the next call resumes it."""
    store, spec = Store(tmp_path), tiny("baseline", epochs=2)
    execute(spec, store, tmp_path, device="cpu")
    folder = store.run_dir(spec.id)
    records = {name: (folder / name).read_bytes() for name in ("history.csv", "metrics.json")}
    store.model(spec.id).unlink()
    write = execution.write_text

    def stop(path, text):
        write(path, text)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(execution, "write_text", stop)
        execute(spec, store, tmp_path, device="cpu")
    assert {name: (folder / name).read_bytes() for name in records} == records
    assert len(store.history(spec.id)) == 2 and store.checkpoint(spec.id).exists()
    assert store.status(spec.id)["state"] == "interrupted"
    execute(spec, store, tmp_path, device="cpu")
    assert store.model(spec.id).exists() and not list(folder.glob("*.part*"))
    before = pd.read_csv(io.BytesIO(records["history.csv"]))
    assert store.history(spec.id)["train_loss"].tolist() == before["train_loss"].tolist()


@pytest.mark.parametrize("name", ["model.pt", "correct.npz", "history.csv", "metrics.json"])
def test_a_kill_at_the_end_never_leaves_old_numbers_beside_new_files(tmp_path, monkeypatch, name):
    """A retrained run is stopped just before a file is renamed into place; the next call finishes it."""
    store, spec = Store(tmp_path), tiny("baseline", epochs=1)
    execute(spec, store, tmp_path, device="cpu")
    store.model(spec.id).unlink()
    replace_file = os.replace

    def stop(source, target):
        if Path(target).name == name:
            raise SystemExit
        replace_file(source, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(os, "replace", stop)
        execute(spec, store, tmp_path, device="cpu")
    assert not store.is_done(spec.id) and store.checkpoint(spec.id).exists()
    execute(spec, store, tmp_path, device="cpu")
    assert store.is_done(spec.id) and len(store.history(spec.id)) == 1
    kept = {path.name for path in store.run_dir(spec.id).iterdir()} - {".lock"}
    assert kept == {"spec.json", "status.json", "split.npz", "history.csv", "metrics.json", "model.pt", "correct.npz"}


def test_a_run_that_diverges_at_its_end_leaves_no_weights_to_start_from(tmp_path, monkeypatch):
    store, spec = Store(tmp_path), tiny("baseline", epochs=1)
    monkeypatch.setattr("cds_lib.study.engines.setup.evaluate", lambda *_: {"top1": 10.0, "loss": float("inf")})
    with pytest.raises(RunError, match="ended with test_loss_last = inf: it diverged; lower the learning rate"):
        execute(spec, store, tmp_path, device="cpu")
    assert store.status(spec.id)["state"] == "failed"
    assert not store.is_done(spec.id) and not store.model(spec.id).exists()
