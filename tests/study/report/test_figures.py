"""Figures are the same bytes with any user settings; tables as notebooks show them."""

import re

import matplotlib as mpl
import pandas as pd
import pytest
import seaborn as sns
from bs4 import BeautifulSoup
from matplotlib import pyplot

from cds_lib.study.report import figures
from cds_lib.study.report.show import show
from cds_lib.study.tables import TABLES


@pytest.fixture(autouse=True)
def settings():
    with mpl.rc_context():
        yield


def table_of(frame, *formats, **options):
    return BeautifulSoup(show(frame, "a <caption>", *formats, **options).data, "html.parser")


def texts(part, *tags):
    return [cell.get_text() for cell in part.find_all(tags)]


def runs_behind(soup):
    return {cell.get_text(): cell.get("title", "") for cell in soup.tbody.find_all("td")}


ROWS = pd.DataFrame({"against": [*"aaab"], "difference": [1.0, 2.0, 3.0, -1.0], "published": [2.5] * 3 + [None]})


def drawn():
    figures.theme()
    return figures.svg(figures.forest(ROWS, "against", "points <$x$>"), "What it shows.")


def test_a_figure_is_the_same_bytes_every_time_whatever_the_user_has_set():
    first = drawn()
    mpl.rcParams.update({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9})
    assert drawn() == first
    assert "<title>What it shows.</title>" in first and not re.search(r"\d{4}-\d\d-\d\dT", first)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", first)  # text stays text, and a dollar starts no formula
    assert {"a", "b", "n = 3", "n = 1", "points &lt;$x$&gt;", "published"} <= {*texts}


def test_what_is_saved_is_what_is_shown_and_nothing_is_shown_twice(tmp_path):
    figure, _ = pyplot.subplots()
    shown = figures.save(figure, tmp_path / "figures" / "a.svg", "A plot.")
    assert all("<title>A plot.</title>" in text for text in (shown.data, (tmp_path / "figures" / "a.svg").read_text()))
    assert "A plot." in repr(shown)  # for notebooks that are not trusted
    assert shown.metadata == {"alt": "A plot."} and not pyplot.fignum_exists(figure.number)
    figures.save(pyplot.figure(), None, "Only shown.")
    assert len([*tmp_path.rglob("*")]) == 2


def test_a_legend_goes_above_its_figure():
    figures.theme()
    figure, axes = pyplot.subplots()
    figures.legend_above(axes, 3)  # there is no legend yet
    axes.plot([1], label="CDS")
    axes.legend()
    grid = sns.relplot(ROWS, x="difference", y="published", hue="against")
    for plot in (axes, grid):
        figures.legend_above(plot, 3)
    assert axes.get_legend() is None and [len(f.legends) for f in (figure, grid.figure)] == [1, 1]
    assert [text.get_text() for text in grid.figure.legends[0].get_texts()] == ["a", "b"]


def test_methods_of_a_table_have_colours_that_tell_them_apart():
    for name in ("table1_cifar100", "distillation_cifar100", "semi_supervised", "contrastive_methods"):
        colours = figures.palette(cell.method for cell in TABLES[name].cells("mini", (0,)))
        assert len({*colours.values()}) == len(colours)
    assert figures.palette(["baseline", "cds"])["CDS"] == figures.palette(["cds", "dsn"])["CDS"]


def test_a_table_has_names_for_people_signs_and_gaps():
    row = {"method": "dsn", "difference": -0.5, "p": 0.03125, "n": 6, "known": True, "low": None}
    soup = table_of(pd.DataFrame([row]))
    assert soup.caption.get_text() == "a <caption>"
    assert texts(soup.tbody, "th", "td") == ["DSN", "−0.50", "0.031", "6", "yes", "–"]
    assert [th["scope"] for th in soup.find_all("th")] == ["col"] * 6 + ["row"]
    assert "left" in soup.tbody.th["style"] and "right" in soup.tbody.td["style"]


def test_an_index_heads_the_rows_and_a_pivot_keeps_its_order():
    pivot = pd.DataFrame({"dsn": [1.25], "cds": [2.5]}, index=pd.Index(["top1_resnet18"]))
    soup = table_of(pivot, {"cds": "{:.1f}"})
    assert texts(soup.thead, "th", "td") == ["", "DSN", "CDS"]
    assert texts(soup.tbody, "th", "td") == ["top-1, ResNet-18", "1.25", "2.5"]
    parts = pd.concat([pd.DataFrame({"n": [1]}), pd.DataFrame({"n": [2]})])  # both indices are 0 and carry no meaning
    assert texts(table_of(parts), "th", "td") == ["n", "1", "2"]


def test_the_runs_behind_a_number_are_those_its_row_and_column_name():
    models, methods = ["resnet18"] * 3 + ["resnet50"], ["cds", "cds", "dsn", "cds"]
    runs = pd.DataFrame({"model": models, "method": methods, "value": [1.0, 2.0, 3.0, None], "run": [*"abcd"]})
    means = runs.pivot_table(index="model", columns="method", values="value", dropna=False)
    means["seeds"] = [9, 9]
    assert runs_behind(table_of(means, runs=runs)) == {"1.50": "runs a b", "3.00": "runs c", "9": "", "–": ""}


def test_a_column_of_runs_is_behind_the_numbers_of_its_row_and_not_shown():
    rows = pd.DataFrame({"method": ["cds"], "difference": [1.0], "p": [0.5], "published": [2.0], "runs": ["a b"]})
    soup = table_of(rows)
    assert runs_behind(soup) == {"+1.00": "runs a b", "0.500": "", "+2.00": ""}
    assert "runs" not in soup.thead.get_text()


def test_a_figure_is_dark_where_pages_are_and_images_in_it_are_not_negatives():
    figure, axes = pyplot.subplots()
    axes.imshow([[0.0, 1.0]])
    text = figures.svg(figure, "d")
    dark = text.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]
    assert "#figure_1 {" in dark and "#figure_1 image {" in dark and "<image " in text
