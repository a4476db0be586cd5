"""The verdicts at the top of the README: a few sentences, the counts and a plot, between two comments of the file."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cds_lib.errors import UsageError
from cds_lib.files import write_text
from cds_lib.reporting import figures, summary, verdicts, wording
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY

BEGIN = "<!-- verdicts: written by `python -m cds_lib report --profile {profile} --readme README.md` -->"
END = "<!-- end of verdicts -->"
_BLOCK = re.compile(r"<!-- verdicts: .*? -->\n.*?" + re.escape(END), re.DOTALL)


def update(readme: Path, profile: str, seeds: tuple[int, ...], store: Store) -> Path:
    """Replace what stands between the two comments of `readme`, and write the files that it leads to: the summary's
    tables and plot.

    Reads finished runs alone; whatever else stands in the file stays. Raises UsageError if it lacks the comments.
    """
    text = readme.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        raise UsageError(f'{readme} has no place for the verdicts: put "<!-- verdicts: here -->" and "{END}" in it.')
    frame = verdicts.tidy(profile, seeds, store)
    summary.write(frame, store.root)
    plot = store.root / "figures" / f"{SUMMARY}_differences.svg"
    figures.save_svg(figures.claims(verdicts.shown(frame)), plot, verdicts.PLOT)
    block_text = block(frame, _relative(store.root, readme.parent))
    write_text(readme, _BLOCK.sub(lambda _: block_text, text, count=1))
    return readme


def block(frame: pd.DataFrame, results: str) -> str:
    """The comments and what stands between them; `results` is the results folder as links of the README call it."""
    profile = frame["profile"].iloc[0]
    sentences = "\n".join(f"- {sentence}" for sentence in wording.conclusion(frame))
    return "\n\n".join(
        [
            BEGIN.format(profile=profile),
            f"Verdicts of the `{profile}` profile ([every claim]({results}/tables/{SUMMARY}.md)):",
            sentences,
            summary.counts_markdown(frame, by_kind=False),
            f"![{verdicts.PLOT}]({results}/figures/{SUMMARY}_differences.svg)",
            END,
        ]
    )


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
