"""The check of a results folder finds each kind of fault, and nothing in a good one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("check_results", Path(__file__).parent / "check_results.py")
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)


@pytest.fixture
def results(tmp_path):
    """A good results folder with one table, one notebook and one run."""
    row = dict.fromkeys(check.COLUMNS, "x") | {"n": "1", "mean": "2.5"}
    texts = {
        "tables/t.csv": ",".join(row) + "\n" + ",".join(row.values()) + "\n",
        "tables/t.md": "x",
        "tables/t.tex": "x",
        "notebooks/t.ipynb": "{}",
        "html/t.html": '<a href="https://example.org/">a link that is only followed on a click</a>',
        "figures/t.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
        "index.html": "<p>x</p>",
        "runs/r/spec.json": "{}",
        "runs/r/status.json": json.dumps({"state": "done"}),
        "runs/r/metrics.json": "{}",
        "runs/r/history.csv": "epoch\n1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def problems(results):
    return check.problems(results, ["t"], ["t"], ["r"])


def test_each_file_is_needed(results):
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        text = path.read_text()
        path.unlink()
        assert problems(results) == [f"{path} is missing or empty"]
        path.write_text("")
        assert problems(results) == [f"{path} is missing or empty"]
        path.write_text(text)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("tables/t.csv", ",1,", ",0,", "t.csv: x x was not run"),
        ("tables/t.csv", "2.5", "", "t.csv: x x was not run"),
        ("tables/t.csv", "verdict", "opinion", "t.csv lacks the columns verdict"),
        ("runs/r/status.json", "done", "failed", "run r is failed"),
        ("figures/t.svg", "/>", ">", "t.svg is no SVG (no element found: line 1, column 40)"),
        ("html/t.html", "<a ", '<img class="a" ', 't.html loads from elsewhere: \'<img class="a" href="https://\''),
        ("index.html", "x", '<script src="//cdn"></script>', "index.html loads from elsewhere: '<script src=\"//'"),
        ("index.html", "x", "<style>a{b:url(http://c)}</style>", "index.html loads from elsewhere: 'url(http://'"),
    ],
)
def test_each_fault_is_named(results, name, old, new, sentence):
    text = (results / name).read_text()
    assert old in text
    (results / name).write_text(text.replace(old, new, 1))
    assert problems(results) == [sentence]


def test_a_run_that_never_started(results):
    assert check.problems(results, ["t"], ["t"], ["r"]) == []
    assert check.problems(results, ["t"], ["t"], ["r", "s"]) == ["run s was planned and never started"]
