"""The two forms of Markdown that tables, summary and README are written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pipe_table(lines: Iterable[Sequence[str]]) -> str:
    """A table of these cells; the second line says how columns are aligned, such as `---:`."""
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def bullets(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return "\n".join(f"- {sentence}" for sentence in sentences)
