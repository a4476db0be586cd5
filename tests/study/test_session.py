"""The session that a notebook opens uses the folders of the checkout from any working directory."""

import itertools
from pathlib import Path

import nbformat
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.commands import own
from cds_lib.study.errors import NothingRun
from cds_lib.study.report import notebooks
from cds_lib.study.session import open_study
from run_folders import write_notebook


def folders(**arguments):
    study = open_study("table1_cifar100", profile="mini", **arguments)
    return study.store.root, study.data_root


def test_folders_start_at_the_checkout_and_not_where_the_kernel_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDS_DATA_ROOT", raising=False)
    assert folders() == (ROOT / "results" / "mini", ROOT / "data")
    assert folders(results="results/mine", data_root="images") == (ROOT / "results" / "mine", ROOT / "images")
    assert folders(results=str(tmp_path), data_root=str(tmp_path)) == (tmp_path, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders(results="~/mine", data_root="~/images") == (tmp_path / "mine", tmp_path / "images")
    assert folders(results="~no such user", data_root="~no such user") == (ROOT / "~no such user",) * 2
    monkeypatch.setenv("CDS_DATA_ROOT", "/volume/data")
    assert folders()[1] == Path("/volume/data")


STOP = """
import os, signal, time
def stop(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
"""
PROGRAM = f"""{STOP}
from cds_lib.study.engines import runner
from cds_lib.study.session import open_study
runner.train_missing = stop
open_study("00_start_here", results=results, seeds=seeds).train_missing()
"""
OWN_LOOP = f"{STOP}\nfrom cds_lib.study import theme\ntheme()\nfor _ in range(3):\n    stop()\n"


@pytest.mark.parametrize(
    ("program", "seeds", "shows"),
    [(PROGRAM, "0", "KeyboardInterrupt"), (PROGRAM, "x", "UsageError: Seeds"), (OWN_LOOP, "", "KeyboardInterrupt")],
)
def test_an_interrupt_and_a_wrong_parameter_are_one_line_in_a_notebook(program, seeds, shows, tmp_path):
    path = tmp_path / "repository" / "notebooks" / "n.ipynb"
    write_notebook(path, program, parameters="results = seeds = ''")
    results = str(tmp_path / "r")
    next(notebooks.execute([(path, tmp_path / "n.ipynb")], {"results": results, "seeds": seeds}))
    (output,) = nbformat.read(tmp_path / "n.ipynb", as_version=4).cells[-1].outputs
    (line,) = output.traceback
    assert line.startswith(shows) and "\n" not in line


def test_models_and_methods_choose_rows_and_keep_what_these_are_compared_with():
    study = open_study("table1_cifar100", profile="mini", models="resnet50, resnet18", methods="cds")
    rows = study.results()[["model", "method"]].drop_duplicates()
    wanted = {*itertools.product(("resnet18", "resnet50"), ("baseline", "cds"))}
    assert {*rows.itertuples(index=False, name=None)} == wanted
    assert (study.frame()["baseline_delta"].notna() == (study.frame()["method"] == "cds")).all()
    with pytest.raises(UsageError, match="There is no method 'cdss' here: choose from baseline, dsn, "):
        open_study("table1_cifar100", methods="cdss")


def test_who_names_no_folder_writes_no_figure(tmp_path):
    assert open_study("tsne", profile="mini").figure() is None
    study = open_study("tsne", profile="mini", results=str(tmp_path))
    assert study.figure() == tmp_path / "figures" / "tsne.svg"
    assert study.figure("seeds") == tmp_path / "figures" / "tsne_seeds.svg"


def test_a_study_is_described_once_there_is_something_to_show(tmp_path):
    with pytest.raises(NothingRun, match="tsne has no result in .* yet: set train = True"):
        open_study("tsne", profile="mini", results=str(tmp_path)).describe()
    said = open_study("table1_cifar100", profile="mini").describe()
    assert "75 runs: 75 done, 0 to train" in said and "hours of training" in said


def test_one_run_with_other_options_is_trained_beside_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "CHECKOUT", tmp_path)
    study = open_study("table1_cifar100", profile="smoke", results=str(tmp_path / "study"))
    row = study.train("cds", "resnet18", weight=0.5, taps=[1, 4], epochs=1).iloc[0]
    assert row["method"] == "cds, weight 0.5, taps [1, 4], epochs 1" and row["value"] >= 0 and row["seed"] == 0
    (folder,) = (tmp_path / "results" / "mine" / "runs").iterdir()
    assert folder.name == row["run"] and not (tmp_path / "study").exists()
    with pytest.raises(UsageError, match="has no run of 'cdss'"):
        study.train("cdss")
