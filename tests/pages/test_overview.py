"""The index as a whole: headings in order, the picture, the state of the grid, links between reports, missing parts."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import nbformat
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from nbformat.v4 import new_markdown_cell, new_notebook

from cds_lib.methods import ContrastiveDeepSupervision
from cds_lib.models import create_backbone
from cds_lib.pages import diagram, notebooks, overview, render
from cds_lib.reporting import figures, report, summary, verdicts, wording
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from run_folders import top1, write_run

TABLE = TABLES["table1_cifar100"]
SEEDS = (0, 1, 2)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def run(results, spec, state, error=None):
    done = state == "done"
    metrics = top1(30.0 + spec.seed, 31.0) | {"seconds": 60.0} if done else None
    history = "epoch,train_cross_entropy\n1,2.0\n" if done else None
    write_run(Store(results), spec, metrics, {"state": state, "error": error}, history)


def fill(results):
    """resnet18: baseline 3 of 3, DSN 1 of 3 with a failure, DKS failed; the rest not run."""
    cells = {cell.method: cell.specs for cell in TABLE.cells("mini", SEEDS) if cell.model == "resnet18"}
    for spec in cells["baseline"]:
        run(results, spec, "done")
    run(results, cells["dsn"][0], "done")
    run(results, cells["dsn"][1], "failed", "out of memory")
    run(results, cells["dks"][0], "failed", "out of memory")
    store = Store(results)
    report.write_table(report.tidy(TABLE, "mini", SEEDS, store), TABLE, results)
    return cells


def notebook(results, name, title):
    cells = [new_markdown_cell(f"# {title}\n", id="title")]
    book = new_notebook(cells=cells, metadata={notebooks.METADATA: {"ok": True, "seconds": 1.0, "error": None}})
    path = results / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def index(results, profile="mini"):
    return BeautifulSoup(render.write_index(results, profile).read_text(encoding="utf-8"), "html.parser")


def page(results, name):
    return BeautifulSoup((results / "html" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def headings(soup):
    return [int(heading.name[1]) for heading in soup.find_all(["h1", "h2", "h3", "h4", "h5", "h6"])]


SECTIONS = ["What it is", "Verdicts", "Tables", "Reports", "State of the runs"]


def test_sections_come_in_the_order_of_reading_and_no_heading_level_is_skipped(results):
    fill(results)
    summary.write(verdicts.tidy("mini", SEEDS, Store(results)), results, [])
    (results / "figures").mkdir()
    (results / "figures" / "x.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    soup = index(results)
    names = [heading.get_text() for heading in soup.find_all("h2")]
    assert names == [*SECTIONS[:3], "Plots", *SECTIONS[3:], "Failed runs", "Where these numbers come from"]
    levels = headings(soup)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for tag in soup.find_all(attrs={"aria-labelledby": True}):
        assert all(soup.find(id=name) for name in tag["aria-labelledby"].split())


def test_the_verdicts_of_the_index_are_those_of_the_summary(results):
    fill(results)
    frame = verdicts.tidy("mini", SEEDS, Store(results))
    summary.write(frame, results, [])
    soup = index(results)
    said = soup.find(id="verdicts").find_next("p").get_text()
    assert said.startswith(f"Of {len(frame)} claims ") and f", 1 inconclusive, {len(frame) - 1} not run. " in said
    assert said.endswith(wording.RULE)
    numbers = [int(row.td.get_text()) for row in soup.find(class_="verdicts").tbody.find_all("tr")]
    assert sum(numbers) == len(frame)
    assert soup.find(class_="verdicts").find_all("a") == []  # the page with every claim was not written
    notebook(results, "summary", "Summary")
    render.render_notebooks(results, ["summary"])
    assert {a["href"].split("#")[0] for a in index(results).find(class_="verdicts").find_all("a")} == {
        "html/summary.html"
    }


@pytest.mark.parametrize("missing", ["tables", "figures", "notebooks", "html", "summary", "runs"])
def test_any_part_may_be_missing(results, missing):
    fill(results)
    summary.write(verdicts.tidy("mini", SEEDS, Store(results)), results, [])
    notebook(results, TABLE.name, "Table 1")
    render.render_notebooks(results, [TABLE.name])
    if missing == "summary":
        (results / "tables" / "summary.csv").unlink()
    elif (results / missing).exists():
        (results / missing).rename(results / f"no_{missing}")
    soup = index(results)
    text = soup.get_text()
    assert ("No verdict has been written yet." in text) == (missing in ("summary", "tables"))
    assert ("No table has been written yet." in text) == (missing == "tables")
    assert ("No notebook has been executed yet." in text) == (missing == "notebooks")
    assert [heading.get_text() for heading in soup.find_all("h2") if heading.get_text() in SECTIONS] == SECTIONS
    for link in soup.find_all("a", href=True):
        if link["href"].startswith("#"):
            assert soup.find(id=link["href"][1:]), link
        elif missing not in ("tables", "html", "notebooks"):
            assert (results / link["href"]).exists(), link


def test_the_state_of_every_cell(results):
    fill(results)
    (heat,) = index(results).find_all("table", class_="heat")
    head = [cell.get_text() for cell in heat.thead.find_all("th")]
    assert head == ["network", "baseline", "DSN", "DKS", "DHM", "CDS"]
    lines = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in heat.tbody.find_all("tr")]
    empty = "○ 0/3 not run"
    assert len(lines) == 10
    assert lines[0] == ["ResNet-18", "● 3/3 done", "◐ 1/3 partly, 1 failed", "✘ 0/3 failed", empty, empty]
    assert lines[1] == ["ResNet-50", *[empty] * 5]


def test_a_failed_parent_is_what_stops_its_children(results):
    table = TABLES["distillation_cifar100"]
    (kd,) = (cell for cell in table.cells("mini", SEEDS) if cell.method == "kd")
    run(results, kd.specs[1].parent, "failed", "no")
    stuck = overview.failed_cells(table, "mini", Store(results), {kd.specs[1].parent.id})
    assert stuck[kd.key] == 1
    assert ("cifar100", "resnet18", "okd", "distill") not in stuck  # it has no teacher
    assert overview.failed_cells(table, "mini", Store(results), set()) == {}


def test_a_method_that_a_row_does_not_have_is_not_called_missing(results):
    table = TABLES["table7_imagenet_distillation"]  # three ways of distilling were published for one student alone
    frame = report.tidy(table, "mini", SEEDS, Store(results))
    heat = BeautifulSoup(overview.heat_map(frame, table, {}), "html.parser")
    states = [cell.get_text() for cell in heat.tbody.find_all("td")]
    cells = {(row["model"], row["setting"], row["method"]) for _, row in frame.iterrows()}
    assert states.count("○ 0/3 not run") == len(cells)
    assert set(states) == {"○ 0/3 not run", "–"}


def test_a_trained_run_without_its_analysis_is_not_called_untrained(results):
    fill(results)
    table = TABLES["calibration"]
    heat = overview.heat_map(report.tidy(table, "mini", SEEDS, Store(results)), table, {})
    states = [cell.get_text() for cell in BeautifulSoup(heat, "html.parser").tbody.find_all("td")]
    assert states == ["○ 0/3 not analysed", "○ 0/3 not analysed", "○ 0/3 not run"]  # baseline, DSN, CDS


def test_the_longer_side_of_the_states_goes_downwards():
    table = TABLES["tuning"]  # one network, and many candidates
    frame = report.tidy(table, "mini", SEEDS, Store("a folder that is not there"))
    heat = BeautifulSoup(overview.heat_map(frame, table, {}), "html.parser")
    rows, columns = frame["method"].nunique(), len(frame.groupby(["model", "setting"]))
    assert rows > columns
    assert len(heat.tbody.find_all("tr")) == rows
    assert [cell.get_text() for cell in heat.thead.find_all("th")][0] == "method"
    assert len(heat.thead.find_all("th")) == 1 + columns


def test_the_short_table_holds_the_measured_cells(results):
    fill(results)
    section = index(results).find("section", id=TABLE.name)
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in section.table.find_all("tr")]
    assert rows[1:] == [
        ["ResNet-18"],
        ["baseline", "31.00 ± 1.00 (3)", "–", "–", "–"],
        ["DSN", "30.00 (1 of 3)", "0.00", "+0.85", "? inconclusive"],
    ]
    empty = report.tidy(TABLE, "mini", SEEDS, Store(results / "nowhere"))
    assert overview.short_table(empty, TABLE) == "<p>No cell of it has been run.</p>"


def test_columns_without_a_word_to_say_are_left_out(results):
    fill(results)
    always = ["method", "this study: mean ± std (n); higher is better"]
    for name, more in (
        (TABLE.name, ["difference to baseline [95 % CI]", "published", "verdict"]),
        ("deviations", ["difference to the default [95 % CI]"]),  # of which no published number is known
    ):
        table = TABLES[name]
        frame = report.tidy(table, "mini", SEEDS, Store(results)).assign(n=1, mean=1.0)
        page = BeautifulSoup(overview.short_table(frame.head(3), table), "html.parser")
        assert [cell.get_text() for cell in page.thead.find_all("th")] == [*always, *more]


def test_a_long_short_table_is_folded(results):
    frame = report.tidy(TABLE, "mini", SEEDS, Store(results)).assign(n=1, mean=1.0)
    folded = BeautifulSoup(overview.short_table(frame, TABLE), "html.parser")
    assert folded.details.summary.get_text() == "50 measured cells"
    assert not BeautifulSoup(overview.short_table(frame.head(12), TABLE), "html.parser").details


def test_plots_say_what_they_show(results):
    folder = results / "figures"
    folder.mkdir(parents=True)
    (folder / "b.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><title>A &lt;b&gt; &amp; c</title></svg>")
    (folder / "a_plot.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    images = index(results).find_all("img")
    assert [image["alt"] for image in images] == ["a plot", "A <b> & c"]
    assert not any(image.has_attr("width") for image in images)  # these say no size


def test_plots_are_folded_under_their_table_and_keep_their_place(results):
    fill(results)
    nothing = TABLES["table2_cifar10"]
    report.write_table(report.tidy(nothing, "mini", SEEDS, Store(results)), nothing, results)
    for name in (TABLE.name, f"{TABLE.name}_accuracy", nothing.name, "other"):
        figures.save_svg(Figure(figsize=(7.5, 3)), results / "figures" / f"{name}.svg", name)
    soup = index(results)
    plots = soup.find("section", id=TABLE.name).find_all("figure", class_="plot")
    assert [plot["id"] for plot in plots] == [f"figure-{TABLE.name}", f"figure-{TABLE.name}_accuracy"]
    assert all(plot.find_parent("details") for plot in soup.find_all("figure", class_="plot"))
    assert (plots[0].img["width"], plots[0].img["height"]) == ("720", "288")
    assert [image["alt"] for image in soup.find_all("img")] == [TABLE.name, f"{TABLE.name}_accuracy", "other"]


def test_a_table_without_a_run_is_a_line(results):
    fill(results)
    nothing = TABLES["table2_cifar10"]
    report.write_table(report.tidy(nothing, "mini", SEEDS, Store(results)), nothing, results)
    soup = index(results)
    line = soup.find(id=nothing.name)
    assert line.name == "li" and nothing.heading in line.get_text()
    assert [link["href"] for link in line.find_all("a")][0] == f"tables/{nothing.name}.csv"
    states = soup.find(id="state").find_next("details").find_all("table", class_="heat")
    assert [state.caption.get_text() for state in states] == [TABLE.title]


def test_reports_lead_to_their_neighbours(results):
    for name, title in (
        ("semi_supervised", "Semi"),
        ("table1_cifar100", "Table 1"),
        ("summary", "Sum"),
        ("zoo", "Zoo"),
    ):
        notebook(results, name, title)
    render.render_notebooks(results, ["zoo"])  # all, since the set of reports is new
    found = {}
    for name in ("summary", "table1_cifar100", "semi_supervised", "zoo"):
        for suffix in ("", ".code"):
            navs = page(results, name + suffix).find_all("nav", class_="neighbours")
            links = [[(a["rel"], a["href"], a.get_text()) for a in nav.find_all("a")] for nav in navs]
            assert len(navs) == 2 and links[0] == links[1]
            found[name + suffix] = links[0]
            assert all((results / "html" / href).exists() for _, href, _ in links[0])
    assert found["summary"] == [(["next"], "table1_cifar100.html", "Next Table 1")]
    assert found["table1_cifar100.code"] == [
        (["prev"], "summary.code.html", "Previous Sum"),
        (["next"], "semi_supervised.code.html", "Next Semi"),
    ]
    assert found["zoo"] == [(["prev"], "semi_supervised.html", "Previous Semi")]


def test_only_what_changed_is_rendered_again(results):
    for name in ("a", "b"):
        notebook(results, name, name)
    render.render_notebooks(results, ["a", "b"])
    (results / "html" / "b.html").write_text("kept")
    render.render_notebooks(results, ["a"])
    assert (results / "html" / "b.html").read_text() == "kept"
    notebook(results, "c", "c")
    render.render_notebooks(results, ["c"])
    assert (results / "html" / "b.html").read_text() != "kept"


# -- the picture -------------------------------------------------------------------------------------------------------


def test_the_picture_is_valid_named_and_the_same_every_time():
    text = diagram.svg()
    assert text == diagram.svg()
    root = ElementTree.fromstring(text)
    names = {child.tag.rsplit("}")[-1]: child for child in root}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [names["title"].get("id"), names["desc"].get("id")]
    assert "url(" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_picture_is_inside_its_frame():
    root = ElementTree.fromstring(diagram.svg())
    _, _, width, height = map(float, root.get("viewBox").split())
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, w, h = (float(box.get(name)) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height


def test_the_picture_shows_the_taps_and_heads_that_the_method_has():
    method = ContrastiveDeepSupervision(create_backbone("resnet18", 10, width=0.125), 10)
    units = [len(method.heads[str(tap)].units) if str(tap) in method.heads else 0 for tap in method.taps]
    assert tuple(units) == diagram.HEADS
    texts = [text.text for text in ElementTree.fromstring(diagram.svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert [t for t in texts if "unit" in t] == ["3 units", "2 units", "1 unit"]
    assert [t for t in texts if t.startswith("loss of tap")] == [f"loss of tap {tap}" for tap in method.taps]
    assert "cross-entropy" in texts and "of view 1" in texts
