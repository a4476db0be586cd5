"""What tables in LaTeX are made of."""

from __future__ import annotations

from collections.abc import Iterable

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    # A row that starts with a bracket would be taken for the optional argument of the line break above it.
    "[": "{[}",
    "]": "{]}",
}


def escape(text: str) -> str:
    """Text in which LaTeX sees nothing but text."""
    return "".join(_CHARACTERS.get(character, character) for character in text)


def row(texts: Iterable[str]) -> str:
    """A row of a table, each cell escaped."""
    return " & ".join(map(escape, texts)) + r" \\"
