"""Compare another results folder with the committed results: accept a good run, reject a manipulated one."""

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
from run_folders import change_json

MINI = Store(Path(__file__).resolve().parents[3] / "results" / "mini")
RUNS = [supervised("mini", "cifar100", "resnet18", "cds", seed).id for seed in HEADLINE_SEEDS["mini"][:2]]


@pytest.fixture
def theirs(tmp_path):
    for run in RUNS:
        shutil.copytree(MINI.run_dir(run), tmp_path / "runs" / run)
    shutil.copy(MINI.root / "store.json", tmp_path)
    return Store(tmp_path)


def cell(theirs):
    (row,) = compared([TABLES["table1_cifar100"]], "mini", None, MINI, theirs).to_dict("records")
    return row


@pytest.fixture
def compare(theirs, capsys):
    """Return a function that runs the command on a folder and returns exit code, stdout and stderr."""

    def run(folder=theirs.root):
        return cli.main(["compare", str(folder), "--only", "table1_cifar100"]), *capsys.readouterr()

    return run


def test_a_repetition_lies_inside_the_interval(theirs, compare):
    row = cell(theirs)
    values = [MINI.metrics(run)["test_top1_last"] for run in RUNS]
    assert row["theirs"] == pytest.approx(np.mean(values)) and (row["n"], row["n_theirs"]) == (6, 2)
    assert (row["inside"], row["images"]) == ("yes", "same") and row["low"] < row["mean"] < row["high"]
    code, said, _ = compare()
    assert code == 0 and "inside: 1, outside: 0, not tested: 0 of 1 cells" in said


def test_other_images_and_another_spec_are_seen(theirs, compare):
    change_json(theirs.run_dir(RUNS[0]) / "status.json", data=theirs.status(RUNS[0])["data"] | {"sha256": "0" * 64})
    assert cell(theirs)["images"] == "other" and compare()[0] == 1
    budget = theirs.spec(RUNS[1]).to_dict()["budget"]
    change_json(theirs.run_dir(RUNS[1]) / "spec.json", budget=budget | {"lr": 0.2})
    code, _, error = compare()
    assert code == 1 and RUNS[1] in error


@pytest.mark.parametrize("code", ["b4d19b9bb960+dirty", "unknown"])
def test_code_of_no_commit_is_named(theirs, compare, code):
    change_json(theirs.run_dir(RUNS[1]) / "status.json", code=code)
    code, said, _ = compare()
    assert code == 1 and f"no commit: {RUNS[1]}\n" in said and "other images" not in said


@pytest.mark.parametrize("name", ["spec.json", "status.json", "history.csv", "metrics.json"])
def test_a_folder_that_is_not_whole_or_contradicts_itself_is_refused(theirs, compare, name):
    path = theirs.run_dir(RUNS[0]) / name
    if name == "metrics.json":
        change_json(path, test_top1_last=theirs.metrics(RUNS[0])["test_top1_last"] + 5)
    else:
        path.unlink()
    code, _, error = compare()
    assert code == 1 and str(path) in error


def test_a_folder_without_such_runs_is_one_sentence(tmp_path, compare):
    code, _, error = compare(tmp_path / "runs")
    assert code == 2 and "has no finished run of these tables" in error


def test_the_prediction_interval_holds_the_mean_of_new_seeds_in_19_of_20_cases():
    drawn, inside = np.random.default_rng(0).normal(30, 0.5, (4000, 8)), 0
    for values in drawn:
        low, high = statistics.prediction_interval(statistics.summarise(list(values[:5])), 3)
        inside += low <= values[5:].mean() <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)
    assert statistics.prediction_interval(statistics.summarise([1.0]), 3) == (None, None)
