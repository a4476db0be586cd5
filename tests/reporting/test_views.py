"""What the table notebook shows, run as the notebook runs it, on a results folder without any run."""

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from cds_lib.reporting import report, views
from cds_lib.session import open_study

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "table1_cifar100.ipynb"


@pytest.fixture
def study(tmp_path):
    return open_study("table1_cifar100", profile="mini", results=str(tmp_path), seeds="0,1")


def test_published_table_is_turned_to_fit_a_page():
    table = BeautifulSoup(views.published_table("table_1").data, "html.parser")
    assert [th.get_text() for th in table.find_all("th", scope="col")] == ["baseline", "DSN", "DKS", "DHM", "CDS"]
    rows = {row.th.get_text(): [td.get_text() for td in row.find_all("td")] for row in table.tbody.find_all("tr")}
    assert len(rows) == 10
    assert rows["ResNet-18"] == ["77.45", "78.30", "78.96", "78.82", "80.84"]
    assert table.figcaption.get_text() == "Source: authors' poster, image of Table 1 (printed digits)."


def test_published_table_that_fits_stays_and_shows_gaps():
    table = BeautifulSoup(views.published_table("table_6").data, "html.parser")
    rows = {row.th.get_text(): [td.get_text() for td in row.find_all("td")] for row in table.tbody.find_all("tr")}
    assert list(rows) == ["CUB-200", "Stanford Cars", "Flowers-102", "Stanford Dogs", "FGVC-Aircraft"]
    assert rows["CUB-200"] == ["78.50", "80.14", "81.34", "81.27", "82.10"]
    assert "–" in BeautifulSoup(views.published_table("table_7").data, "html.parser").tbody.get_text()


def test_table_and_figures_are_saved_as_they_are_shown(study, tmp_path):
    assert "not run" in views.table(study).data
    assert (report.read_table("table1_cifar100", tmp_path)["n"] == 0).all()
    shown, _ = views.gains(study)._repr_svg_()
    assert "<svg" in shown
    views.accuracy_curves(study)
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["table1_cifar100.svg", "table1_cifar100_accuracy.svg"]


def test_published_tables_that_look_alike_name_their_data_set():
    for dataset, name in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")):
        soup = BeautifulSoup(views.published_table(f"fig_semi_supervised_{dataset}").data, "html.parser")
        assert soup.caption.get_text() == f"{name}, published"
    detectors = BeautifulSoup(views.published_table("table_4").data, "html.parser").get_text()
    assert "Faster R-CNN, CDS" in detectors and "AP small" in detectors


def test_plan_and_conclusion_say_what_is_missing(study):
    assert "100 runs: 0 done, 100 to train" in views.plan(study).data
    assert "0 of the 100 runs that fill a cell are finished." in views.conclusion(study).data
    assert "<li>Differences of which none was run: DSN; DKS; DHM; CDS.</li>" in views.conclusion(study).data


def test_the_notebooks_cells_run_and_promise_the_files_they_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = []
    names = {"display": lambda *objects: shown.extend(objects)}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"results": str(tmp_path), "train": False}
    assert len(shown) == 8
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 5
    for path in written:
        promise = path.suffix if path.suffix in (".md", ".tex") else str(path)
        assert f"`{promise}`" in notebook.cells[0].source
