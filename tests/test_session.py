"""What a notebook opens: wherever it is opened, the folders are those of the checkout."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from cds_lib.errors import UsageError
from cds_lib.pages import notebooks
from cds_lib.session import open_study

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"jobs": -1}, "jobs must be a whole number"),
        ({"jobs": "2"}, "jobs must be a whole number"),
        ({"processes": 0}, "processes must be a whole number, 1 or more, not 0"),
        ({"processes": "2"}, "processes must be a whole number"),
        ({"seeds": (0, 1)}, "seeds must be a text"),
        ({"seeds": "0,x"}, "Seeds must be whole numbers"),
        ({"profile": "big"}, "Unknown profile 'big'"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        open_study("table1_cifar100", **arguments)


PROGRAM = """
import os, signal, time
from cds_lib.engines import runner
from cds_lib.session import open_study
def train(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
runner.train_missing = train
open_study("00_start_here", results=results, seeds=seeds).train_missing()
"""


@pytest.mark.parametrize(("seeds", "shows"), [("0", "KeyboardInterrupt"), ("x", "UsageError: Seeds")])
def test_an_interrupt_and_a_wrong_parameter_are_one_line_in_a_notebook(seeds, shows, tmp_path):
    path = tmp_path / "repository" / "notebooks" / "n.ipynb"
    path.parent.mkdir(parents=True)
    parameters = new_code_cell("results = seeds = ''", id="parameters", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(PROGRAM, id="train")]), path)
    results = str(tmp_path / "r")
    notebooks.execute(path, tmp_path / "n.ipynb", {"results": results, "seeds": seeds})
    (output,) = nbformat.read(tmp_path / "n.ipynb", as_version=4).cells[-1].outputs
    (line,) = output.traceback
    assert line.startswith(shows) and "\n" not in line
