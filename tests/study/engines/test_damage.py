"""With damaged results folders each command gives the right numbers or says in one sentence what to do."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import sweeps
from cds_lib.study import cli
from cds_lib.study.commands import study
from cds_lib.study.engines.execute import execute
from cds_lib.study.errors import RunError
from cds_lib.study.report import notebooks, pages
from cds_lib.study.report.index import write_index
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

pytestmark = pytest.mark.xdist_group("damage")  # the fixture is costly: once, in one process
STUDY_PARAMETERS = "profile = results = data_root = seeds = ''\ntrain = True"
RUN = sweeps.RUNS[0]  # a baseline


@pytest.fixture(scope="module")
def good(tmp_path_factory, one_comparison):
    """Return a finished folder and its table."""
    root = sweeps.pretend_all(tmp_path_factory.mktemp("good") / "results").root
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLES, "faults", sweeps.TABLE)
        assert cli.main(["run-all", "--only", "faults", "--results", str(root)]) == 0
    return root, (root / "tables" / "faults.csv").read_text()


@pytest.fixture
def results(good, tmp_path, monkeypatch):
    monkeypatch.setitem(TABLES, "faults", sweeps.TABLE)
    shutil.copytree(good[0], tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "tables")
    return tmp_path / "results"


@pytest.fixture
def command(results, good, capfd):
    """Return a function that runs a command, which gives the right table or one sentence; the sentence is returned."""

    def run(name):
        code = cli.main([name, "--only", "faults", "--results", str(results)])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        if code == 0:
            assert err == ""
            if name != "status":
                assert (results / "tables" / "faults.csv").read_text() == good[1]
            return ""
        assert code in (1, 2)
        (line,) = err.splitlines()
        assert line.startswith("error: ") and len(line) < 700
        return line

    return run


def break_file(path, damage):
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) * 2 // 3],
        "garbled": bytes(byte ^ 0x5A for byte in whole),
        "a_list": b"[1, 2]",
        "an_empty_object": b"{}",
        "not_a_number": whole.replace(b"4.5", b"NaN"),
    }
    if damage == "a_folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(contents[damage])


@pytest.mark.parametrize("damage", ["truncated", "a_list", "an_empty_object", "a_folder", "not_a_number"])
def test_damaged_metrics_are_never_a_number(results, command, damage):
    path = Store(results).run_dir(RUN.id) / "metrics.json"
    break_file(path, damage)
    for name in ("run-all", "report"):
        said = command(name)
        assert str(path) in said and f"delete the folder {path.parent} and run again" in said
    said = command("status")
    assert damage == "an_empty_object" or str(path) in said


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("spec.json", damage) for damage in ("truncated", "garbled", "a_list", "an_empty_object", "a_folder")),
        *(("status.json", damage) for damage in ("garbled", "a_folder")),
        *(("store.json", damage) for damage in ("a_list", "an_empty_object")),
    ],
)
def test_other_damaged_files_are_named_with_what_to_do(results, command, name, damage):
    path = results / name if name == "store.json" else Store(results).run_dir(RUN.id) / name
    break_file(path, damage)
    said = command("run-all")
    assert str(path) in said and "delete" in said


HISTORY = sweeps.history(RUN.budget.epochs, 10.0)
CUT_OFF = [HISTORY[:-9], HISTORY[:-1], HISTORY[:60], ""]
CHANGED = [HISTORY + "4,0.1,2,900,10,1\n", "a,b\n1,x\n", "\xff", "epoch\n2\n1\n3\n"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_history_is_never_a_curve(results, finished):
    store = Store(results)
    if not finished:  # an unfinished run writes its history again
        (store.run_dir(RUN.id) / "metrics.json").unlink()
    what = f"the folder .*{RUN.id}" if finished else "it"
    for text in CUT_OFF + CHANGED:
        (store.run_dir(RUN.id) / "history.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(RunError, match=f"history.csv cannot be read .* delete {what} and run again"):
            store.history(RUN.id)


def test_a_history_that_lacks_its_last_epoch(results):
    store = Store(results)
    (store.run_dir(RUN.id) / "history.csv").write_text("".join(HISTORY.splitlines(True)[:-1]))
    for read in (store.history, store.metrics):
        with pytest.raises(RunError, match="'test_top1_last' differs from the last row of its history.csv"):
            read(RUN.id)
    (store.run_dir(RUN.id) / "history.csv").write_text(sweeps.history(RUN.budget.epochs - 1, 10.0))
    with pytest.raises(RunError, match="it has 2 rows"):
        store.history(RUN.id)


def test_the_results_of_another_run_are_not_taken_for_this_ones(results, command):
    """A user has copied the folder of one run to the place of another."""
    store = Store(results)
    shutil.rmtree(store.run_dir(RUN.id))
    shutil.copytree(store.run_dir(sweeps.RUNS[1].id), store.run_dir(RUN.id))
    for name in ("run-all", "report", "status"):
        assert f"it belongs to run {sweeps.RUNS[1].id}" in command(name)
    (store.run_dir(RUN.id) / "metrics.json").unlink()
    with pytest.raises(RunError, match="renamed or copied"):  # the checkpoint is refused too
        execute(RUN, store, Path("none"))


def test_a_training_that_diverged_is_no_damage(results, command, good):
    """Two cases: records from before a failure, and infinite losses in a run that finished."""
    store = Store(results)
    failed, finished = (store.run_dir(spec.id) for spec in sweeps.RUNS[:2])
    (finished / "history.csv").write_text((finished / "history.csv").read_text().replace("8.0", "inf"))
    assert command("report") == "" and np.isinf(store.history(finished.name)["train_loss"][0])
    (failed / "metrics.json").unlink()
    (failed / "history.csv").write_text(sweeps.history(RUN.budget.epochs, "nan").replace("6.0", "inf"))
    store.write_status(failed.name, state="failed", error="it diverged; lower the learning rate.")
    assert cli.main(["report", "--only", "faults", "--results", str(results)]) == 0
    assert command("status") == "" and len(store.history(failed.name)) == RUN.budget.epochs


def test_an_old_status_is_whole_and_what_does_not_belong_to_the_study_is_left_alone(results, command):
    """Status fields that earlier versions did not record; a run of no known table, folders without a spec, a file."""
    store = Store(results)
    store.write_status(RUN.id, **dict.fromkeys(("data", "versions", "processes", "device", "code", "started")))
    sweeps.pretend(store, replace(RUN, dataset="fashion", method="magic"), 5)
    (results / "runs" / "notes").mkdir()
    (results / "runs" / "notes.txt").write_text("mine")
    (results / "runs" / "junk").mkdir()
    (results / "runs" / "junk" / "spec.json").write_text("{")
    before = {*(results / "runs").rglob("*")}
    for name in ("run-all", "report", "status"):
        assert command(name) == ""
    assert {*(results / "runs").rglob("*")} == before
    assert str(results / "runs" / "junk") in (results / "index.html").read_text()


def test_a_damaged_run_of_another_table_is_named_before_the_training(results, command):
    store, other = Store(results), replace(RUN, seed=7)
    sweeps.pretend(store, other, 5)
    (store.run_dir(other.id) / "status.json").write_text("{")
    shutil.rmtree(store.run_dir(RUN.id))
    assert str(store.run_dir(other.id) / "status.json") in command("run-all")
    assert not store.run_dir(RUN.id).exists()


def test_damaged_reports_are_named(results, good, capfd):
    """An earlier command wrote these reports, and this command only collects them."""
    names = ["tables/table1_cifar100.csv", "tables/table2_cifar10.csv", "notebooks/a.ipynb", "notebooks/b.ipynb"]
    paths = [results / name for name in names]
    for path, damage in zip(paths, ["truncated", "a_folder"] * 2, strict=True):
        path.parent.mkdir(exist_ok=True)
        table = good[1].replace("faults,", f"{path.stem},")
        path.write_text(table if path.suffix == ".csv" else '{"cells": [], "metadata": {}, "nbformat": 4}')
        break_file(path, damage)
    assert cli.main(["report", "--only", "faults", "--results", str(results)]) == 1
    said, index = capfd.readouterr().out, (results / "index.html").read_text()
    assert "Traceback" not in said
    assert all(str(path) in said and str(path) in index for path in paths)
    assert (results / "tables" / "faults.csv").read_text() == good[1]


def test_a_stray_notebook_is_its_own_failure_and_named_before_the_training(results, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "repository" / "notebooks"
    folder.mkdir(parents=True)
    declared = new_code_cell(STUDY_PARAMETERS, id="parameters", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[declared]), folder / "good.ipynb")
    nbformat.write(new_notebook(cells=[new_code_cell("", id="empty")]), folder / "Untitled.ipynb")
    (folder / "empty.ipynb").touch()
    monkeypatch.setattr(study, "NOTEBOOKS", folder)
    shutil.rmtree(Store(results).run_dir(sweeps.RUNS[0].id))  # one run has to be trained
    assert cli.main(["run-all", "--only", "faults,good,Untitled,empty", "--jobs", "1", "--results", str(results)]) == 1
    out, err = capfd.readouterr()
    assert "Failed: 0 runs, 0 analyses, 2 reports;" in err and "Traceback" not in out + err
    for name in ("Untitled", "empty"):
        assert out.index(f"Not to be executed: The notebook {folder / name}.ipynb") < out.index("1 at a time")
        assert f"notebook {name}: FAILED: " in out
    assert "notebook good: done" in out and (results / "html" / "good.html").exists()
    index = (results / "index.html").read_text()
    assert all(f' id="{name}"' in index for name in ("Untitled", "empty"))


def test_a_damaged_notebook_or_figure_does_not_break_its_neighbours(results):
    folder = results / "notebooks"
    folder.mkdir(exist_ok=True)
    for name in ("a", "c"):
        notebook = new_notebook(cells=[new_code_cell("x = 1", id="x")])
        notebook.metadata[notebooks.METADATA] = {"ok": True, "seconds": 1.0, "error": None}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / "b.ipynb").write_text("{")
    (results / "figures").mkdir(exist_ok=True)
    (results / "figures" / "a_plot.svg").write_bytes(b'<svg width="9pt" height="9pt"><title>caf\xe9</title></svg>')
    pages.render_notebooks(results, ["a", "c"])
    assert "c.html" in (results / "html" / "a.html").read_text()
    index = write_index(results, "smoke").read_text()
    assert str(folder / "b.ipynb") in index and 'id="figure-a_plot"' in index and 'width="12"' in index


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(results, command):
    (Store(results).run_dir(RUN.id) / "metrics.json").chmod(0)
    assert "Permission denied" in command("report")
