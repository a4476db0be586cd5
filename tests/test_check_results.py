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


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("runs/r/status.json", "done", "failed", "run r is failed"),
        ("html/t.html", "<a ", '<img class="a" ', 't.html loads from elsewhere: \'<img class="a" href="https://\''),
    ],
)
def test_each_fault_is_named(results, name, old, new, sentence):
    assert problems(results) == []
    text = (results / name).read_text()
    assert old in text
    (results / name).write_text(text.replace(old, new, 1))
    assert problems(results) == [sentence]
