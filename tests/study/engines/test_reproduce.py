"""A finished run is trained again and is identical, differs by a reported amount, or cannot be checked."""

import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cds_lib.errors import UsageError
from cds_lib.study import cli
from cds_lib.study.engines import provenance
from cds_lib.study.engines import reproduce as engine
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.kernels import KNOWN, Kernels, candidates
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from run_folders import change_json

needs_x86 = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="kernels are chosen on x86-64 and Linux only"
)

pytestmark = pytest.mark.xdist_group("reproduce")  # the fixture is costly: once, in one process


def tiny(spec, epochs=1):
    small = {"width": 0.0625, "train_size": 200, "val_size": 0, "batch_size": 100}
    budget = replace(spec.budget, epochs=epochs, eval_every=1, **small)
    return replace(spec, dataset="cifar10", model="resnet18", budget=budget, parent=spec.parent and tiny(spec.parent))


STUDENT = tiny(settings.distilled("smoke", "cifar100", "resnet18", "kd", 0))
LONGER = tiny(settings.supervised("smoke", "cifar100", "resnet18", "baseline", 0), epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a store with a teacher, its student and a longer run, without weights, like committed results."""
    store = Store(tmp_path_factory.mktemp("results"))
    for spec in (*STUDENT.lineage, LONGER):
        execute(spec, store, Path("no data"), device="cpu")
    for path in store.root.glob("runs/*/model.pt"):
        path.unlink()
    return store


@pytest.fixture
def store(trained, tmp_path):
    shutil.copytree(trained.root, tmp_path / "results")
    return Store(tmp_path / "results")


@pytest.fixture
def in_this_process(monkeypatch):
    """Train again in this process, like the first time."""

    def train(spec, again, data_root, kernels, status, stop_after):
        execute(spec, again, data_root, device="cpu", stop_after=stop_after)

    monkeypatch.setattr(engine, "_train", train)


def reproduce(store, *arguments):
    return cli.main(["reproduce", *arguments, "--results", str(store.root), "--data-root", "no data"])


def change_status(store, spec, **changes):
    change_json(store.run_dir(spec.id) / "status.json", **changes)


def test_a_run_comes_out_the_same_its_teacher_first(store, capsys):
    def files():
        return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}

    before = files()
    assert reproduce(store, STUDENT.id, "--epochs", "all") == 0
    said = capsys.readouterr()
    assert "1 epoch," in said.out and "identical to the last digit" in said.out
    assert STUDENT.parent.label in said.err.splitlines()[0] and files() == before


@pytest.mark.usefixtures("in_this_process")
def test_numbers_made_up_consistently_are_told_by_column_and_epoch(store, capsys):
    """`compare` cannot detect this: history and metrics agree, but no training gives these numbers."""
    folder, frame = store.run_dir(LONGER.id), store.history(LONGER.id)
    frame.loc[1, "test_top1"] = 99.0
    frame.to_csv(folder / "history.csv", index=False)
    change_json(folder / "metrics.json", test_top1_last=99.0, test_top1_best=99.0)
    assert store.metrics(LONGER.id)["test_top1_last"] == 99
    assert reproduce(store, LONGER.id, "--epochs", "all") == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert line.startswith("  test_top1 from epoch 2 on: 99")


def test_differences_are_the_first_of_each_column_in_the_epochs_at_hand(tmp_path):
    kept, found = tmp_path / "kept.csv", tmp_path / "found.csv"
    kept.write_text("epoch,lr,train_loss,seconds,test_top1\n1,0.1,2.0,9,\n2,0.1,1.5,9,10.0\n3,0.1,1.0,9,\n")
    found.write_text("epoch,lr,train_loss,seconds,new\n1,0.1,2.0,8,1\n2,0.1,1.5000000000000002,8,2\n")
    differences = engine.compare(kept, found)
    assert [line.split(":")[0] for line in differences] == ["train_loss from epoch 2 on", "test_top1 from epoch 2 on"]
    assert differences[0].endswith("+2.2e-16") and differences[1].endswith("10.0 kept, none now")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"versions": {"torch": "1.0", "numpy": "2"}}, "torch 1.0, numpy 2"),
        ({"versions": None}, "versions"),
        ({"device": "NVIDIA H100"}, "CPU"),
        ({"earlier": [{"instructions": {"pytorch": "AVX2"}}]}, "interrupted"),
        ({"processes": 2}, "one process"),
        ({"machine": "Darwin arm64, Apple M3", "instructions": None}, "Darwin arm64"),
        ({"instructions": {"pytorch": "DEFAULT", "onednn": "AVX2"}}, "DEFAULT"),
    ],
)
def test_what_cannot_be_checked_is_said_before_anything_is_trained(store, changes, sentence, capsys):
    change_status(store, STUDENT.parent, **changes)
    assert reproduce(store, STUDENT.parent.id) == 2
    said = capsys.readouterr()
    assert sentence in said.err and len(said.err.splitlines()) == 1 and not said.out


@pytest.mark.usefixtures("in_this_process")
def test_other_images_an_unfinished_run_and_wrong_words_are_refused(store, capsys):
    teacher = STUDENT.parent
    data = store.status(teacher.id)["data"]
    change_status(store, teacher, data={**data, "sha256": "0" * 64})
    assert reproduce(store, teacher.id) == 2 and "other images" in capsys.readouterr().err
    (store.run_dir(teacher.id) / "metrics.json").unlink()
    assert reproduce(store, STUDENT.id) == 2 and f"starts from run {teacher.id}" in capsys.readouterr().err
    for arguments in ([teacher.id], ["nothing"], [STUDENT.id, "--epochs", "0"], [STUDENT.id, "--epochs", "no"]):
        assert reproduce(store, *arguments) == 2


@needs_x86
def test_unknown_kernels_are_tried_until_some_fit(store, tmp_path, monkeypatch):
    change_status(store, LONGER, instructions=None, machine="Linux x86_64")
    history = store.run_dir(LONGER.id) / "history.csv"
    right, tried = Kernels("AVX2", "AMD"), []

    def train(spec, again, data_root, kernels, status, stop_after):
        tried.append(kernels)
        folder = again.run_dir(spec.id)
        folder.mkdir(exist_ok=True)
        lines = history.read_text().splitlines(keepends=True)[: 1 + stop_after]
        text = "".join(lines) if kernels == right else "".join([lines[0], lines[1].replace(",", ",1", 2)])
        (folder / "history.csv").write_text(text)
        (folder / "status.json").write_text(json.dumps(status))

    monkeypatch.setattr(engine, "_train", train)
    monkeypatch.setattr(Kernels, "lack", "")
    outcomes = engine.reproduce(LONGER.id, store, tmp_path, tmp_path, None, print)
    assert [outcome.kernels for outcome in outcomes] == KNOWN[: KNOWN.index(right) + 1]
    assert [bool(outcome.differences) for outcome in outcomes] == [True, True, False]
    assert tried == [*KNOWN[:2], right, right]  # one epoch with kernels that do not fit, all epochs with those that fit

    change_status(store, LONGER, machine="Linux x86_64, Intel(R) Xeon(R)")
    tried.clear()
    assert all(o.differences for o in engine.reproduce(LONGER.id, store, tmp_path, tmp_path / "b", 1, print))
    assert tried == [kernels for kernels in KNOWN if kernels.mkl != "AMD"]
    monkeypatch.setattr(Kernels, "lack", property(lambda self: "" if self.instructions == "AVX2" else "no AVX512 here"))
    with pytest.raises(UsageError, match="others may have been used, and no AVX512 here"):
        engine.reproduce(LONGER.id, store, tmp_path, tmp_path / "c", 1, print)


@needs_x86
def test_a_record_leaves_one_kind_of_kernels():
    for kernels in KNOWN:
        mkl, machine = ("generic", "AMD EPYC") if kernels.mkl == "AMD" else (kernels.mkl, "Intel(R) Xeon(R)")
        onednn = {"AVX512": "AVX512_CORE_AMX", "AVX2": "AVX2_VNNI"}[kernels.instructions]
        recorded = {"pytorch": kernels.instructions, "onednn": onednn, "mkl": mkl}
        assert candidates({"machine": f"Linux x86_64, {machine}", "instructions": recorded}) == [kernels]
    assert candidates({"machine": "Linux x86_64"}) == KNOWN


@needs_x86
def test_this_machines_own_kernels_are_recognised():
    own = candidates({"machine": provenance.machine(), "instructions": provenance.instructions()})
    assert len(own) == 1 and not own[0].lack
