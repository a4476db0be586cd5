"""The two forms of Markdown that tables, summary and README are written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pipe_table(headings: Sequence[str], columns: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `columns` has a letter per column, as in LaTeX: `l` for texts, `r` for numbers."""
    below = ["---:" if column == "r" else "---" for column in columns]
    lines = [headings, below, *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def bullets(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return "\n".join(f"- {sentence}" for sentence in sentences)
