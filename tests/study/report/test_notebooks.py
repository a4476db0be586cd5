"""Tiny notebooks in the real papermill runner: success, failure, killed processes, misspelt parameters."""

import json
import math
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell

import cds_lib
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.report import notebooks
from run_folders import write_notebook
from sweeps import wait_until


@pytest.fixture
def make(tmp_path):
    """Return make(name, source, ...), which writes repo/notebooks/<name>.ipynb with the parameter `steps`."""

    def write(name, *sources):
        return write_notebook(tmp_path / "repo" / "notebooks" / f"{name}.ipynb", *sources, parameters="steps = 1")

    return write


def outputs(path):
    return {cell.id: cell.get("outputs", []) for cell in nbformat.read(path, as_version=4).cells}


def test_success_runs_here_in_the_repository_with_the_parameter_and_saves(make, tmp_path):
    source = "import os, sys, time\nprint(sys.executable, end='|', flush=True)\ntime.sleep(0.5)\n"
    source += "print(os.getcwd(), steps, sep='|')"
    path, output = make("good", source), tmp_path / "out" / "good.ipynb"
    before = path.read_bytes()
    result = next(notebooks.execute([(path, output)], {"steps": 7}))
    assert (result.name, result.ok, result.error) == ("good", True, None) and result.seconds > 0
    (printed,) = outputs(output)["c1"]  # one output, even if it arrived in pieces
    assert printed["text"].strip() == f"{sys.executable}|{tmp_path / 'repo'}|7"
    assert path.read_bytes() == before
    assert [p.name for folder in (path.parent, output.parent) for p in folder.iterdir()] == ["good.ipynb"] * 2
    saved = json.loads(output.read_text())
    assert saved["metadata"]["kernelspec"]["name"] == "python3"
    assert [cell["id"] for cell in saved["cells"]] == ["title", "parameters", "injected-parameters", "c1"]
    assert str(tmp_path) not in json.dumps(saved["metadata"]) and notebooks.stored(output)[1] == result
    saved = output.read_bytes()
    next(notebooks.execute([(path, output)], {"steps": 7}))
    assert output.read_bytes() == saved


def test_a_notebook_is_run_again_only_where_its_inputs_or_figures_are_others(make, tmp_path):
    path, output, count = make("n", "open('count', 'a').write('x')"), tmp_path / "out" / "n.ipynb", tmp_path / "repo"
    figure = tmp_path / "figures" / "n_a.svg"
    figure.parent.mkdir()
    figure.touch()

    def runs(steps=1, evidence="e"):
        assert next(notebooks.execute([(path, output)], {"steps": steps}, evidence=evidence)).ok
        return len((count / "count").read_text())

    assert [runs(), runs(), runs(2), runs(2), runs(2, "f"), runs(2, "f")] == [1, 1, 2, 2, 3, 3]
    figure.unlink()
    assert runs(2, "f") == 4
    path.write_text(path.read_text().replace("'x'", "'xy'"))
    assert runs(2, "f") == 6
    output.write_text("{")
    assert runs(2, "f") == 8


def test_the_users_folder_startup_file_and_backend_reach_no_notebook(make, tmp_path, monkeypatch):
    (tmp_path / "startup.py").write_text("print('their startup file')")
    for name, value in {"PYTHONSTARTUP": tmp_path / "startup.py", "MPLBACKEND": "nonsense"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("random", "cds_lib"):  # in the caller's working directory
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the caller has a {name}.py')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    path = make("clean", "import matplotlib, random, cds_lib\nprint(cds_lib.__file__)")
    result = next(notebooks.execute([(path, tmp_path / "out.ipynb")], {}))
    assert result.error is None
    assert outputs(tmp_path / "out.ipynb")["c1"][0]["text"].strip() == cds_lib.__file__


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise ValueError('first line\\nsecond line')", "ValueError: first line"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
    ],
)
def test_a_cell_that_fails_is_named_and_what_came_before_is_saved(make, tmp_path, source, why):
    path, output = make("bad", "print('before')", source, "print('after')"), tmp_path / "bad.ipynb"
    result = next(notebooks.execute([(path, output)], {}))
    assert not result.ok and result.cell == "c2" and result.error.startswith(f'cell "c2": {why}')
    assert "second" not in result.error
    saved = outputs(output)
    assert list(saved) == ["title", "parameters", "c1", "c2", "c3"]  # without papermill's marker cells
    assert saved["c1"][0]["text"] == "before\n" and saved["c3"] == []
    assert notebooks.stored(output)[1] == result


def test_ctrl_c_leaves_the_notebook_of_before(make, tmp_path):
    path = make("stopped", f"import os, signal, time\nos.kill({os.getpid()}, signal.SIGINT)\ntime.sleep(60)")
    output = tmp_path / "x"
    output.write_text("as it was")
    with pytest.raises(KeyboardInterrupt):
        next(notebooks.execute([(path, output)], {}))
    assert output.read_text() == "as it was" and not list(tmp_path.glob(".*"))


def test_what_cannot_be_read_or_written_is_the_failure_of_its_notebook(make, tmp_path):
    path, output = make("good", "print(steps)"), tmp_path / "out" / "good.ipynb"
    (path.parent / "broken.ipynb").write_text("{")
    for name, parameters, says in (
        ("good", {"stepz": 2}, "no parameter stepz; it declares: steps"),
        ("broken", {}, "broken.ipynb cannot be read"),
        ("absent", {}, "absent.ipynb cannot be read"),
    ):
        result = next(notebooks.execute([(path.with_stem(name), output)], parameters))
        assert not result.ok and says in result.error
    assert not output.parent.exists()  # refused before any cell ran
    output.mkdir(parents=True)
    result = next(notebooks.execute([(path, output)], {}))
    assert not result.ok and "Is a directory" in result.error


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_notebook_whose_process_dies_is_its_failure(make, tmp_path):
    """Another notebook that runs at the same time is not affected."""
    text = """
import os, pathlib, signal
log = pathlib.Path(os.environ["IPYTHONDIR"]).parent / "output.txt"
for path in pathlib.Path("/proc").glob("[0-9]*/fd/1"):
    if path.parts[2] != str(os.getpid()) and path.resolve() == log.resolve():
        os.kill(int(path.parts[2]), signal.SIGKILL)
"""
    paths = [make("dies", text), make("lives", "import time; time.sleep(0.5); print('ran')")]
    found = notebooks.execute([(path, tmp_path / path.name) for path in paths], {}, jobs=2)
    results = {result.name: result for result in found}
    assert "died (signal 9)" in results["dies"].error and results["dies"].cell == "c1"
    assert results["lives"].ok and outputs(tmp_path / "lives.ipynb")["c1"][0]["text"] == "ran\n"
    assert {path.name for path in tmp_path.iterdir()} == {"repo", "dies.ipynb", "lives.ipynb"}


def test_no_temporary_folder_is_needed(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cleaned by others"))
    path = make("good", "import os; print([name for name in os.listdir(os.environ['IPYTHONDIR'])])")
    assert next(notebooks.execute([(path, tmp_path / "out" / "good.ipynb")], {})).ok
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.ipynb"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_notebook_and_its_kernel_end_with_a_parent_that_is_killed(make, tmp_path):
    note = "pathlib.Path('pids').write_text(f'{os.getpid()} {os.getppid()}')"
    path = make("slow", f"import os, pathlib, time\n{note}\ntime.sleep(300)")
    code = "from pathlib import Path\nfrom cds_lib.study.report import notebooks\n"
    code += f"next(notebooks.execute([(Path({str(path)!r}), Path({str(tmp_path / 'out' / 'x')!r}))], {{}}))"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    pids = tmp_path / "repo" / "pids"
    wait_until(lambda: parent.poll() is not None or (pids.exists() and pids.read_text()), 60)
    parent.kill()
    parent.wait()
    ended = [Path("/proc", pid) for pid in pids.read_text().split()]
    wait_until(lambda: all(not p.exists() or ") Z " in (p / "stat").read_text() for p in ended), 60)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("good_starts", "calls"), [(0, 3), (1, 3)])
def test_a_kernel_that_does_not_start_is_tried_again_and_not_for_ever(make, tmp_path, monkeypatch, good_starts, calls):
    tried = tmp_path / "tried"
    execute = partial(execute_at_last, tried, calls if good_starts else math.inf)
    monkeypatch.setattr(notebooks, "_execute", execute)
    result = next(notebooks.execute([(make("n", "print('ran')"), tmp_path / "n.ipynb")], {}))
    assert len(tried.read_text()) == calls
    assert result.ok if good_starts else result.error.startswith("the kernel did not start (")


def execute_at_last(tried, good_from, say, *arguments):
    """Patch the executing process: kernels end right after their start until try `good_from`."""
    from cds_lib.study.report import kernel

    start = kernel.Kernel.run

    def run(self):
        with open(tried, "a") as file:
            file.write("x")
        if len(tried.read_text()) >= good_from:
            start(self)

    kernel.Kernel.run = run
    return notebooks._execute(say, *arguments)


@pytest.mark.parametrize(
    ("parameters", "stays"),
    [({"profile": "mini"}, True), ({"profile": "smoke"}, False), ({"profile": "mini", "seeds": "0"}, False)],
)
def test_what_interprets_the_miniature_is_left_out_of_other_results(make, tmp_path, parameters, stays):
    """This does not depend on the execution. Here nothing is executed, so the notebook itself is saved."""
    path = make("read")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = 'profile = "mini"\nseeds = ""'
    notebook.cells.append(new_markdown_cell("CDS wins.", id="reading", metadata={"tags": ["mini"]}))
    nbformat.write(notebook, path)
    task = notebooks._Task(path, tmp_path / "read.ipynb", "")
    assert notebooks._saved(task, tmp_path / "nothing", None, 0.0, parameters).ok
    *_, cell = nbformat.read(tmp_path / "read.ipynb", as_version=4).cells
    assert (cell.source == "CDS wins.") == stays and (stays or "left out here" in cell.source)


def test_a_notebook_with_nothing_to_show_ends_there_and_has_not_failed(make, tmp_path):
    nothing = "from cds_lib.study.errors import NothingRun\nraise NothingRun('nothing yet')"
    path = make("empty", nothing, "print('after')")
    result = next(notebooks.execute([(path, tmp_path / "empty.ipynb")], {}))
    assert (result.ok, result.error) == (True, None) and outputs(tmp_path / "empty.ipynb")["c2"] == []
