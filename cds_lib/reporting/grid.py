"""A small table of printed cells, for what would be a list of numbers in a sentence; as Markdown and as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from cds_lib.reporting import formats, markdown


@dataclass(frozen=True)
class Grid:
    """title: heads the first column, which names the rows; headings: of the other columns; notes: sentences below."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """A pipe table, the notes below it as a paragraph."""
        lines = [(self.title, *self.headings), ("---", *("---:" for _ in self.headings)), *self.rows]
        return "\n\n".join(filter(None, (markdown.pipe_table(lines), " ".join(self.notes))))

    def html(self) -> str:
        """A semantic table in a figure that scrolls by itself on a narrow screen, the notes below it."""
        head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in (self.title, *self.headings))
        body = ""
        for name, *cells in self.rows:
            numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
            body += f'<tr><th scope="row">{escape(name)}</th>{numbers}</tr>'
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        below = f"<figcaption>{notes}</figcaption>" if notes else ""
        return f'<figure class="table">{formats.scrolling(table, self.title)}{below}</figure>'
