"""The results of another folder beside the committed ones: a good run is taken, a doctored one refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cds_lib.study import cli, statistics
from cds_lib.study.plan.protocols import HEADLINE_SEEDS
from cds_lib.study.plan.settings import supervised
from cds_lib.study.report.elsewhere import compared
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

MINI = Store(Path(__file__).resolve().parents[3] / "results" / "mini")
RUNS = [supervised("mini", "cifar100", "resnet18", "cds", seed).id for seed in HEADLINE_SEEDS["mini"][:2]]


@pytest.fixture
def theirs(tmp_path):
    for run in RUNS:
        shutil.copytree(MINI.run_dir(run), tmp_path / "runs" / run)
    shutil.copy(MINI.root / "store.json", tmp_path)
    return Store(tmp_path)


def cell(theirs):
    frame = compared([TABLES["table1_cifar100"]], "mini", None, MINI, theirs)
    (row,) = frame.to_dict("records")
    return row


def test_a_repetition_lies_inside_the_interval(theirs, capsys):
    row = cell(theirs)
    values = [MINI.metrics(run)["test_top1_last"] for run in RUNS]
    assert row["theirs"] == pytest.approx(np.mean(values)) and (row["n"], row["n_theirs"]) == (6, 2)
    assert (row["inside"], row["images"]) == ("yes", "same") and row["low"] < row["mean"] < row["high"]
    assert cli.main(["compare", str(theirs.root), "--only", "table1_cifar100"]) == 0
    assert "inside: 1, outside: 0, not tested: 0 of 1 cells" in capsys.readouterr().out


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_other_images_and_another_spec_are_seen(theirs, capsys):
    change(theirs.run_dir(RUNS[0]) / "status.json", lambda status: status["data"].update(sha256="0" * 64))
    assert cell(theirs)["images"] == "other"
    assert cli.main(["compare", str(theirs.root), "--only", "table1_cifar100"]) == 1
    change(theirs.run_dir(RUNS[1]) / "spec.json", lambda spec: spec["budget"].update(lr=0.2))
    capsys.readouterr()
    assert cli.main(["compare", str(theirs.root), "--only", "table1_cifar100"]) == 1
    assert RUNS[1] in capsys.readouterr().err


@pytest.mark.parametrize("code", ["b4d19b9bb960+dirty", "unknown"])
def test_code_of_no_commit_is_named(theirs, capsys, code):
    change(theirs.run_dir(RUNS[1]) / "status.json", lambda status: status.update(code=code))
    assert cli.main(["compare", str(theirs.root), "--only", "table1_cifar100"]) == 1
    said = capsys.readouterr().out
    assert f"no commit: {RUNS[1]}\n" in said and "other images" not in said


@pytest.mark.parametrize("name", ["spec.json", "status.json", "history.csv", "metrics.json"])
def test_a_folder_that_is_not_whole_or_contradicts_itself_is_refused(theirs, capsys, name):
    path = theirs.run_dir(RUNS[0]) / name
    if name == "metrics.json":
        change(path, lambda metrics: metrics.update(test_top1_last=metrics["test_top1_last"] + 5))
    else:
        path.unlink()
    assert cli.main(["compare", str(theirs.root), "--only", "table1_cifar100"]) == 1
    assert str(path) in capsys.readouterr().err


def test_a_folder_without_such_runs_is_one_sentence(tmp_path, capsys):
    assert cli.main(["compare", str(tmp_path), "--only", "table1_cifar100"]) == 2
    assert "has no finished run of these tables" in capsys.readouterr().err


def test_the_prediction_interval_holds_the_mean_of_new_seeds_in_19_of_20_cases():
    drawn = np.random.default_rng(0).normal(30, 0.5, (4000, 8))
    inside = 0
    for values in drawn:
        low, high = statistics.prediction_interval(statistics.summarise(list(values[:5])), 3)
        inside += low <= values[5:].mean() <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)
    assert statistics.prediction_interval(statistics.summarise([1.0]), 3) == (None, None)
