"""The HTML that tables are made of: text is escaped, marked-up text is not, and nothing empty is written."""

from bs4 import BeautifulSoup
from markupsafe import Markup

from cds_lib.reporting import html
from cds_lib.reporting.html import Cell


def test_text_is_escaped_and_markup_is_not():
    assert html.element("td", '<b> & "c"', 'x"y') == '<td class="x&quot;y">&lt;b&gt; &amp; &quot;c&quot;</td>'
    assert html.element('th scope="row"', Markup("<b>a</b>")) == '<th scope="row"><b>a</b></th>'


def test_a_table_has_a_body_per_group_of_rows():
    rows = [html.row("a", [Cell("1", "number")], "missing"), html.row("b", [Cell("2", "number")])]
    bodies = [[html.group("first & second", 2), *rows], rows]
    soup = BeautifulSoup(html.table([Cell(""), Cell("n")], bodies, 'a "name"', Cell("said", "unseen")), "html.parser")
    assert soup.div["aria-label"] == 'a "name"' and soup.div["tabindex"] == "0"
    assert (soup.caption["class"], soup.caption.get_text()) == (["unseen"], "said")
    assert [cell.name for cell in soup.thead.tr.find_all(True)] == ["td", "th"]  # an empty corner heads nothing
    assert [len(body.find_all("tr")) for body in soup.find_all("tbody")] == [3, 2]
    assert soup.find(class_="group").get_text() == "first & second"
    assert soup.find(class_="missing").find(class_="number").get_text() == "1"


def test_what_is_empty_is_left_out():
    assert html.bullets([]) == html.paragraphs([]) == ""
    assert "caption" not in html.figure(html.table([Cell("a")], [[]], "a"))


def test_classes_of_verdicts_and_states():
    assert html.kind("direction confirmed") == "direction-confirmed"
    assert html.kind("not meaningful (smoke)") == "not-meaningful"
