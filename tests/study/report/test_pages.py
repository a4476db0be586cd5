"""HTML pages are self-contained, escape user-defined names and show failures, with and without code."""

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cds_lib.study.report import notebooks, pages
from cds_lib.study.report.frame import results as results_of
from cds_lib.study.report.frame import tidy
from cds_lib.study.report.index import write_index
from cds_lib.study.report.notebooks import NotebookResult
from cds_lib.study.report.show import show
from cds_lib.study.report.table_files import write_table
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from run_folders import top1, write_run

TABLE = TABLES["table1_cifar100"]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>'


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def executed(results, name="demo", *, profile="mini", error=None, cell="", outputs=()):
    """Write an executed notebook as `notebooks.execute` does."""
    shown = [
        new_output("stream", name="stdout", text="[1/30] a run <b>x</b>\n"),
        new_output("stream", name="stderr", text="a warning\n"),
        new_output("display_data", data={"text/html": "<p>shown</p>", "text/plain": "HTML"}),
        new_output("execute_result", data={"text/html": "<table><tr><td>1</td></tr></table>"}, execution_count=1),
        new_output("display_data", data={"image/svg+xml": SVG}, metadata={"image/svg+xml": {"alt": 'a "plot"'}}),
    ]
    cells = [
        new_markdown_cell("# A title & <more>\n\nText with a [link](https://example.org).", id="title"),
        new_code_cell("steps = 1", id="parameters", metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Result\n\n### Detail\n\n## Result", id="headings"),
        new_code_cell("show_everything()", id="show", outputs=[*shown, *outputs]),
    ]
    if error:
        trace = ["\x1b[0;31mValueError\x1b[0m: <script>alert(1)</script>"]
        output = new_output("error", ename="ValueError", evalue="no", traceback=trace)
        cells.append(new_code_cell("fail()", id="broken", outputs=[output]))
    notebook = new_notebook(cells=cells)
    notebook.metadata["papermill"] = {"parameters": {"profile": profile}}
    notebook.metadata[notebooks.METADATA] = {"error": error, "cell": cell}
    path = results / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def soup_of(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def rendered(results, **options):
    paths = pages.render_notebook(executed(results, **options), results / "html")
    return {kind: soup_of(path) for kind, path in paths.items()}


def fill(results, failed=None):
    """Write three finished runs of the first network; `failed` is the error of a fourth run."""
    store = Store(results)
    cells = TABLE.cells("mini", (0, 1, 2))
    data = {"kind": "official", "complete": True, "verified": True, "train": 50000, "test": 10000, "sha256": "f" * 64}
    data["note"] = "official layout, complete, every checksum the published one"
    status = {"started": "2026-01-02T10:00:00+00:00", "finished": "2026-01-02T11:00:00+00:00", "data": data}
    status |= {"machine": "Linux x86_64", "device": "cpu", "code": "0123456789ab"}
    status |= {"versions": {"python": "3.12.1", "torch": "2.9"}, "error": None}
    for number, spec in enumerate(cells[0].specs):
        metrics = top1(30.0 + number, 31.0 + number) | {"seconds": 1800.0}
        write_run(store, spec, metrics, status | {"state": "done"})
    if failed:
        write_run(store, cells[1].specs[0], status=status | {"state": "failed", "error": failed})
    write_table(tidy(results_of(TABLE, "mini", (0, 1, 2), store)), TABLE, results)
    return cells


def loaded(soup):
    """Return the addresses that a browser fetches by itself."""
    tags = soup.find_all(["script", "link", "img", "iframe", "object", "embed", "source", "video", "audio"])
    return [str(tag.get(name)) for tag in tags for name in ("src", "href", "data", "srcset") if tag.get(name)]


def test_pages_are_self_contained(results):
    for page in rendered(results).values():
        assert page.find_all(["script", "link"]) == []
        assert loaded(page) and all(address.startswith("data:") for address in loaded(page))
        styles = "".join(style.get_text() for style in page.find_all("style"))
        assert "@import" not in styles and "url(" not in styles
        assert page.html["lang"] == "en" and page.find("meta", attrs={"name": "viewport"})


def test_code_is_only_on_the_page_with_code_and_both_link_to_each_other(results):
    pages = rendered(results)
    assert ["show_everything" in pages[kind].get_text() for kind in ("html", "code")] == [False, True]
    links = ["../index.html", "demo.html", "demo.code.html", "../notebooks/demo.ipynb"]
    for kind, name in (("html", "demo.html"), ("code", "demo.code.html")):
        page = pages[kind]
        assert "a run <b>x</b>" in page.find("pre", class_="stream").get_text()
        assert "a warning" in page.find("pre", class_="stderr").get_text()
        assert page.find("div", class_="html").get_text(strip=True) == "shown"
        assert page.find("td").get_text() == "1" and page.find("img")["alt"] == 'a "plot"'
        bar = page.find("header")
        assert [a["href"] for a in bar.find_all("a")] == links
        assert [a["href"] for a in bar.find_all("a", attrs={"aria-current": "page"})] == [name]


def test_contents_lead_to_every_heading_once(results):
    page = rendered(results)["html"]
    entries = page.find("aside").find_all("a")
    assert [entry.get_text() for entry in entries] == ["Result", "Detail", "Result"]
    targets = [entry["href"].removeprefix("#") for entry in entries]
    assert len(set(targets)) == 3 and [page.find(id=target).name for target in targets] == ["h2", "h3", "h2"]
    assert page.find("details", class_="toc-small").find_all("a") == entries and "¶" not in page.get_text()
    assert page.find("h1").get_text() == "A title & "  # Markdown takes <more> for a tag
    assert page.title.get_text() == "A title & <more>"


def test_every_table_scrolls_by_itself_once_and_a_number_leads_to_its_runs(results):
    html = show(pd.DataFrame({"method": ["cds"], "difference": [1.0], "runs": ["abc def"]}), "a caption").data
    page = rendered(results, outputs=[new_output("display_data", data={"text/html": html})])["html"]
    regions = page.main.find_all(attrs={"role": "region"})
    assert [region["aria-label"] for region in regions] == ["table 1: Result", "a caption"]
    assert [region["tabindex"] for region in regions] == ["0", "0"]
    assert [len(table.find_parents(class_="scroll")) for table in page.find_all("table")] == [1, 1]
    (number,) = (link for link in page.main.find_all("a") if link.get_text() == "+1.00")
    assert number["href"] == "../runs.html#abc"


def test_a_failed_notebook_has_a_banner_that_leads_to_the_cell(results):
    error = 'cell "broken": ValueError: <script>alert(2)</script>'
    for page in rendered(results, error=error, cell="broken").values():
        banner = page.find(class_="banner failed")
        assert error in banner.get_text() and banner.a["href"] == "#cell-broken"
        assert "alert(1)" in page.find(id="cell-broken").get_text() and page.find_all("script") == []
    shown = rendered(results, error="the kernel died", cell="parameters")  # there is no output to link to
    assert shown["html"].find(class_="banner failed").a is None
    assert shown["code"].find(class_="banner failed").a["href"] == "#cell-parameters"


def test_smoke_pages_say_that_numbers_mean_nothing(results):
    page = rendered(results, profile="smoke")["html"]
    assert "numbers mean nothing" in page.find(class_="banner smoke").get_text()
    assert rendered(results, profile="mini")["html"].find(class_="banner") is None


def test_footer_tells_where_the_numbers_come_from(results):
    fill(results)
    page = rendered(results, name=TABLE.name)["html"]
    facts = {div.dt.get_text(): div.dd.get_text() for div in page.footer.find_all("div")}
    assert facts == {
        "runs": "3 finished, 1 h 30 min of training in total",
        "code": "0123456789ab",
        "versions": "python 3.12.1, torch 2.9",
        "machine": "Linux x86_64 cpu",
        "data": "CIFAR-100: official layout, complete, every checksum the published one (50000 training and 10000 "
        "test images, sha256 ffffffffffff)",
        "trained": "2026-01-02T10:00:00+00:00 to 2026-01-02T11:00:00+00:00",
    }


def test_footer_tells_runs_that_differ_apart(results):
    """With several processes CDS contrasts other batches, but the id of a run does not show this."""
    store = Store(results)
    first, second, _ = (spec.id for spec in fill(results)[0].specs)
    said = "official layout, complete, checksum not the published one: test_batch"
    data = store.status(second)["data"] | {"verified": False, "note": said}
    store.write_status(second, processes=4, code="aaa+dirty", data=data)
    rows = dict(pages.provenance_rows(store, [first, second]))
    assert (rows["processes of a run"], rows["code"]) == ("1; 4", "2 versions; 1 run +dirty") and said in rows["data"]


def test_every_page_leads_to_why_numbers_differ(results):
    pages.render_notebook(executed(results), results / "html")
    alone = [soup_of(results / "html" / "demo.html"), soup_of(write_index(results, "mini"))]
    for page in alone:  # the report of the deviations does not exist yet
        assert "docs/deviations.md" in page.footer.get_text() and not page.footer.find("a")
    executed(results, pages.DEVIATIONS)
    pages.render_notebooks(results, ["demo"])
    write_index(results, "mini")
    for name in ("html/demo.html", "html/demo.code.html", "index.html"):
        link = soup_of(results / name).footer.find("a")
        assert link.get_text() == "deviations" and ((results / name).parent / link["href"]).exists()


def test_index_lists_notebooks_tables_failures_and_figures(results):
    cells = fill(results, failed="first <b>line</b>\nsecond line")
    executed(results, TABLE.name)
    executed(results, "other", error='cell "broken": ValueError: no', cell="broken")
    (results / "figures").mkdir()
    (results / "figures" / "demo.svg").write_text(SVG)
    page = soup_of(write_index(results, "mini", [NotebookResult("unsaved", "no <i>kernel</i>")]))
    rows = [row.get_text(" ", strip=True) for row in page.find(class_="reports").find_all("li")]
    assert rows[0].startswith(f"A title & <more> {TABLE.question} 3 of 150 runs with code")
    assert 'failed cell "broken": ValueError: no' in rows[1]
    assert rows[2].startswith("unsaved failed no <i>kernel</i>")
    (failed,) = page.find("ul", class_="failed-runs").find_all("li")
    assert failed.get_text() == f"{cells[1].specs[0].id} cifar100 resnet18 dsn seed 0: first <b>line</b>"
    assert page.find("figure", id="figure-demo").img["src"] == "figures/demo.svg"
    for link in page.find_all("a", href=True):
        target = link["href"]
        if target.startswith("#"):
            assert page.find(id=target[1:]), target
        elif "html/" not in target and "unsaved" not in target:  # these pages were not rendered
            assert (results / target).exists(), target


def test_a_run_that_fills_several_cells_counts_once_in_the_index(results):
    table = TABLES["table4_coco"]  # four metrics per detector
    write_table(tidy(results_of(table, "mini", (0, 1), Store(results))), table, results)
    executed(results, table.name)
    assert "0 of 20 runs" in soup_of(write_index(results, "mini")).find(id=table.name).get_text()


def test_index_of_an_empty_folder(results):
    page = soup_of(write_index(results, "smoke"))
    assert "No notebook has been executed yet." in page.get_text() and page.find(class_="banner smoke")
    assert "Where these numbers come from" not in page.footer.get_text()


def test_a_page_is_the_same_every_time(results):
    fill(results)
    path, html = executed(results), results / "html"

    def written():
        paths = *pages.render_notebook(path, html).values(), write_index(results, "mini")
        return [path.read_bytes() for path in paths]

    assert written() == written()
