"""A small table of printed cells, for what would be a list of numbers in a sentence; as Markdown and as HTML."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from cds_lib.reporting import html, markdown


@dataclass(frozen=True)
class Grid:
    """title: heads the first column, which names the rows; headings: of the other columns; notes: sentences below."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """A pipe table, the notes below it as a paragraph."""
        table = markdown.pipe_table((self.title, *self.headings), "l" + "r" * len(self.headings), self.rows)
        return "\n\n".join(filter(None, (table, " ".join(self.notes))))

    def html(self) -> Markup:
        """A table in a figure, the notes below it."""
        head = map(html.Cell, (self.title, *self.headings))
        rows = [html.row(name, [html.Cell(text, "number") for text in texts]) for name, *texts in self.rows]
        return html.figure(html.table(head, [rows], self.title), html.paragraphs(self.notes))
