"""Tables in HTML, and what stands around them. A text is escaped; `Markup` is HTML already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from markupsafe import Markup


class Cell(NamedTuple):
    """What a cell says, and its class in the style sheet."""

    content: str
    kind: str = ""


def element(tag: str, content: str, kind: str = "") -> Markup:
    """An element with its class; the tag may have attributes, such as `th scope="row"`."""
    name, *attributes = tag.split(" ", 1)
    marked = [f'class="{escape(kind)}"'] if kind else []
    inner = content if isinstance(content, Markup) else escape(content)
    return Markup(f"<{' '.join([name, *marked, *attributes])}>{inner}</{name}>")


def table(
    head: Iterable[Cell], bodies: Iterable[Iterable[str]], label: str, caption: Cell | None = None, kind: str = ""
) -> Markup:
    """A semantic table that scrolls in a region called `label`; each body has rows made by `row` and `group`."""
    # A corner that says nothing is no heading.
    named = "".join(element('th scope="col"', *cell) if cell.content else "<td></td>" for cell in head)
    above = element("caption", element("span", caption.content), caption.kind) if caption else ""
    # One line per row, so that git shows which rows of committed results changed.
    rows = "\n".join("<tbody>" + "\n".join([*body, "</tbody>"]) for body in bodies)
    return scrolling(element("table", Markup(f"{above}<thead><tr>{named}</tr></thead>{rows}"), kind), label)


def row(name: str, cells: Iterable[Cell], kind: str = "") -> Markup:
    """A row of a table, headed by its name."""
    columns = "".join(element("td", *cell) for cell in cells)
    return element("tr", element('th scope="row"', name) + Markup(columns), kind)


def group(title: str, columns: int) -> Markup:
    """The row above a group of rows."""
    heading = element(f'th scope="rowgroup" colspan="{columns}"', element("span", title))
    return element("tr", heading, "group")


def scrolling(table: Markup, label: str) -> Markup:
    """A `<table>` in a region of this name that scrolls by itself on a narrow screen, by keyboard as well."""
    region = f'div role="region" aria-label="{escape(label)}" tabindex="0" style="overflow-x:auto"'
    return element(region, table, "scroll")


def figure(table: Markup, below: str = "", kind: str = "") -> Markup:
    """A table with what is to be said below it."""
    said = element("figcaption", below) if below else ""
    return element("figure", table + said, f"table {kind}".strip())


def bullets(sentences: Iterable[str], kind: str = "") -> Markup:
    """A list of sentences; "" of none."""
    items = Markup("").join(element("li", sentence) for sentence in sentences)
    return element("ul", items, kind) if items else items


def paragraphs(texts: Iterable[str]) -> Markup:
    """One paragraph per text."""
    return Markup("").join(element("p", text) for text in texts)


def kind(words: str) -> str:
    """The class of a verdict or a state, without what stands in brackets: `direction-confirmed`."""
    return words.split(" (")[0].replace(" ", "-")
