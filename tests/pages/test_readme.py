"""The verdicts in the README: only they change, they are those of the committed runs, and a stale README is found."""

import shutil
from pathlib import Path

import pytest

from cds_lib import cli
from cds_lib.findings import remarks
from cds_lib.pages import readme
from cds_lib.reporting import report, verdicts
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "results" / "mini"
STALE = "README.md is stale: python -m cds_lib report --profile mini --readme README.md"


@pytest.fixture(scope="module")
def frame():
    return verdicts.tidy("mini", None, Store(MINI))


def test_the_readme_shows_the_verdicts_of_the_committed_runs(frame):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = readme.headline("mini", None, Store(MINI))
    said = remarks.collect("mini", None, Store(MINI))
    assert said.short and said.grids and readme.block(frame, rows, said, "results/mini") in text, STALE
    assert text.count(readme.END) == 1


def test_the_files_it_leads_to_are_those_of_the_committed_runs(frame):
    assert verdicts.read(MINI)["verdict"].tolist() == frame["verdict"].tolist(), STALE
    assert (MINI / "figures" / "summary.svg").exists(), STALE


@pytest.mark.parametrize("name", [name for name in TABLES if name != SUMMARY])
def test_the_committed_tables_are_those_of_the_committed_runs(name):
    written, found = report.read_table(name, MINI), report.tidy(TABLES[name], "mini", None, Store(MINI))
    columns = ["dataset", "model", "method", "setting", "metric", "n", "n_planned", "runs", "verdict"]
    stale = "results/mini is stale: python -m cds_lib report --profile mini"
    assert written[columns].fillna("").to_numpy().tolist() == found[columns].fillna("").to_numpy().tolist(), stale


def test_only_the_block_changes_and_a_second_time_nothing(tmp_path, capsys):
    shutil.copytree(MINI / "runs", tmp_path / "results" / "runs")
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n<!-- verdicts: here -->\nold\\1 text\n{readme.END}\n\nThe rest \\g<0>.\n")
    arguments = ["report", "--profile", "mini", "--results", str(tmp_path / "results"), "--readme", str(page)]
    assert cli.main(arguments) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- verdicts: ") and text.endswith(f"{readme.END}\n\nThe rest \\g<0>.\n")
    assert "old\\1" not in text and "](results/tables/summary.md)" in text and "](results/figures/summary.svg" in text
    written = sorted(str(p.relative_to(tmp_path / "results")) for p in (tmp_path / "results").glob("[tf]*/*"))
    assert written == ["figures/summary.svg", *(f"tables/summary.{kind}" for kind in ("csv", "md", "tex"))]
    assert cli.main(arguments) == 0
    assert page.read_text(encoding="utf-8") == text


def test_a_file_without_a_place_for_them_is_refused_and_kept(tmp_path, capsys):
    page = tmp_path / "README.md"
    page.write_text("# Title\n")
    arguments = ["report", "--profile", "mini", "--results", str(tmp_path / "results"), "--readme", str(page)]
    assert cli.main(arguments) == 2
    assert "has no place for the verdicts" in capsys.readouterr().err
    assert page.read_text() == "# Title\n"
    page.write_bytes(b"\x89PNG\xff")
    for path in (page, tmp_path, tmp_path / "absent.md"):
        assert cli.main([*arguments[:-1], str(path)]) == 2
        assert "cannot be read" in capsys.readouterr().err
