"""Names from users and files, including `<script>`, appear as text in every page and table."""

from dataclasses import replace

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cds_lib.study.plan import settings
from cds_lib.study.plan.table import Cell, Table
from cds_lib.study.report import notebooks, pages
from cds_lib.study.report.frame import results, tidy
from cds_lib.study.report.index import write_index
from cds_lib.study.report.show import show
from cds_lib.study.report.table_files import write_table
from cds_lib.study.store import Store
from run_folders import top1, write_run

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
NAME = "javascript:alert(1)<script>\"' #&?"  # file name: every character except the slash is allowed


def notebook_file(path, error):
    printed = new_output("stream", name="stdout", text=EVIL)
    html = new_output("display_data", data={"text/html": f"<p>a result</p>{EVIL}<iframe src='//x'></iframe>"})
    trace = new_output("error", ename="E", evalue=EVIL, traceback=[EVIL])
    cells = [new_markdown_cell(f"# {EVIL}", id="title"), new_markdown_cell(f"## {EVIL}", id="second")]
    cells.append(new_code_cell(f"print({EVIL!r})", id="shown", outputs=[printed, html, trace]))
    notebook = new_notebook(cells=cells)
    notebook.metadata["papermill"] = {"parameters": {"profile": EVIL}}
    notebook.metadata[notebooks.METADATA] = {"error": error, "cell": "shown"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def harmless(path):
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert not soup.find_all(["script", "iframe", "object", "embed"])
    for link in soup.find_all("a"):
        assert not link["href"].lower().startswith("javascript:")
    return soup


def test_pages_hold_no_script_whoever_wrote_it(tmp_path):
    folder = tmp_path / f"results {NAME}"
    store = Store(folder)
    spec = replace(settings.supervised("mini", "cifar100", "resnet18", "cds", 0), dataset=EVIL)
    data = {"kind": EVIL, "note": EVIL, "train": 1, "test": 1, "sha256": EVIL}
    status = {"machine": EVIL, "device": EVIL, "code": EVIL, "versions": {EVIL: EVIL}, "data": data, "started": EVIL}
    write_run(store, spec, top1(1.0), {"state": "done", **status})
    failed = replace(spec, seed=1)
    write_run(store, failed, status={"state": "failed", "error": EVIL})
    (folder / "figures").mkdir()
    (folder / "figures" / f"{NAME}.svg").write_text("<svg/>")
    executed = notebook_file(folder / "notebooks" / f"{NAME}.ipynb", EVIL)
    written = pages.render_notebook(executed, folder / "html")
    index = write_index(folder, "mini")

    for page in written.values():
        soup = harmless(page)
        assert EVIL in soup.find(class_="failed").get_text()  # the error appears as text
        assert EVIL in soup.title.get_text()
        assert any(EVIL in shown.get_text() for shown in soup.find_all("pre"))
    soup = harmless(index)
    assert EVIL in soup.footer.get_text()
    assert not soup.find_all(onerror=True)  # no HTML of a notebook is included
    assert f"{failed.id} {failed.label}: {EVIL}" in soup.find(class_="failed-runs").get_text()
    assert EVIL in soup.find(class_="reports").get_text()
    for link in soup.find(class_="reports").find_all("a"):  # links point to existing files
        assert "#" not in link["href"] and "?" not in link["href"]
    assert any(NAME in caption.get_text() for caption in soup.find_all("figcaption"))


@pytest.fixture
def table(tmp_path):
    spec = settings.supervised("mini", "cifar100", "resnet18", "cds", 0)
    cell = Cell(f"{EVIL} a", EVIL, f"{EVIL}|", EVIL, "test_top1_last", spec, (0,))
    named = Table(f"{EVIL} $\\input{{x}}$ %_#", EVIL, lambda profile: [cell], note=EVIL, name="evil")
    write_run(Store(tmp_path), spec, top1(1.0), {"state": "done"})
    return named, tidy(results(named, "mini", (0,), Store(tmp_path)))


def test_tables_hold_no_script(table, tmp_path):
    named, frame = table
    soup = BeautifulSoup(show(frame, EVIL).data, "html.parser")
    assert not soup.find_all(["script", "img"])
    assert EVIL in soup.caption.get_text() and EVIL in soup.tbody.get_text()
    texts = {kind: path.read_text(encoding="utf-8") for kind, path in write_table(frame, named, tmp_path).items()}
    assert "<" not in texts["md"] and f"{EVIL}\\|".replace("<", "&lt;") in texts["md"]
    assert r"\input" not in texts["tex"] and r"\_\#" not in texts["csv"]
