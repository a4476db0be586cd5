"""The check of a results folder finds each kind of fault, and nothing in a good one."""

import pytest

import check_results as check

# A good results folder with one table, one notebook and one run.
ROW = dict.fromkeys(check.COLUMNS, "x") | {"n": "1", "mean": "2.5"}
GOOD = {
    **dict.fromkeys(("tables/t.md", "tables/t.tex", "notebooks/t.ipynb", "index.html"), "x"),
    **dict.fromkeys(("runs/r/spec.json", "runs/r/metrics.json", "runs/r/history.csv"), "{}"),
    "tables/t.csv": ",".join(ROW) + "\n" + ",".join(ROW.values()) + "\n",
    "html/t.html": '<a href="https://example.org/">a link that is only followed on a click</a>',
    "figures/t.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
    "runs/r/status.json": '{"state": "done"}',
}


@pytest.mark.parametrize(
    ("name", "old", "new", "problems"),
    [
        ("index.html", "x", "y", []),
        ("runs/r/status.json", "done", "failed", ["run r is failed"]),
        ("tables/t.csv", "2.5", "", ["t.csv: x x was not run"]),
        ("tables/t.csv", "verdict", "other", ["t.csv lacks verdict"]),
        ("figures/t.svg", "/>", ">", ["t.svg is no SVG (no element found: line 1, column 40)"]),
        ("html/t.html", "<a ", "<img ", ["t.html loads from elsewhere: '<img href=\"https://'"]),
    ],
)
def test_each_fault_is_named(tmp_path, name, old, new, problems):
    assert old in GOOD[name]
    for file, text in (GOOD | {name: GOOD[name].replace(old, new, 1)}).items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    assert list(check.problems(tmp_path, ["t"], ["t"], ["r"])) == problems
