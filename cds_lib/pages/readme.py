"""The verdicts at the top of the README: the headline row of Table 1, a few sentences, the counts and a plot, between
two comments of the file."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cds_lib.errors import UsageError
from cds_lib.files import write_text
from cds_lib.findings import control, remarks
from cds_lib.findings.remarks import Remarks
from cds_lib.reporting import figures, markdown, naming, printed, report, summary, verdicts, wording
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES

BEGIN = "<!-- verdicts: written by `python -m cds_lib report --profile {profile} --readme README.md` -->"
END = "<!-- end of verdicts -->"
_BLOCK = re.compile(r"<!-- verdicts: .*? -->\n.*?" + re.escape(END), re.DOTALL)


def update(readme: Path, profile: str, seeds: Seeds, store: Store) -> Path:
    """Replace what stands between the two comments of `readme`, and write the files that it leads to: the summary's
    tables and plot.

    Reads finished runs alone; whatever else stands in the file stays. Raises UsageError if it cannot be read or lacks
    the comments.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{readme} cannot be read ({error}): give a Markdown file.") from error
    if not _BLOCK.search(text):
        raise UsageError(f'{readme} has no place for the verdicts: put "<!-- verdicts: here -->" and "{END}" in it.')
    frame, rows = verdicts.tidy(profile, seeds, store), headline(profile, seeds, store)
    said = remarks.collect(profile, seeds, store)
    summary.write(frame, store.root, said.short)
    plot = store.root / "figures" / f"{SUMMARY}.svg"
    shown = verdicts.shown(frame)
    figures.save_svg(figures.claims(shown), plot, verdicts.described(shown))
    block_text = block(frame, rows, said, _relative(store.root, readme.parent))
    write_text(readme, _BLOCK.sub(lambda _: block_text, text, count=1))
    return readme


def headline(profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """The rows of Table 1 that the study has the most seeds of, every method on ResNet-18, and below them the control
    of two views, without which they are easily misread."""
    table1 = report.tidy(TABLES["table1_cifar100"], profile, seeds, store)
    switches = report.tidy(TABLES["deviations"], profile, seeds, store)
    return pd.concat([table1[table1["model"] == "resnet18"], switches[switches["method"] == control.SWITCH]])


def _headline_markdown(rows: pd.DataFrame) -> str:
    shown = [printed.HEADINGS[index] for index in (1, 3, 4, 5)]
    lines = []
    for _, row in rows.iterrows():
        texts = printed.cells(row)
        note = " (control, not in the paper)" if row["method"] == control.SWITCH else ""
        lines.append([naming.method_name(row["method"]) + note, *(texts[heading] for heading in shown)])
    return markdown.pipe_table(["CIFAR-100, ResNet-18, top-1", *shown], "lrrrl", lines)


def block(frame: pd.DataFrame, rows: pd.DataFrame, said: Remarks, results: str) -> str:
    """The comments and what stands between them; `rows` are those of `headline`, `said` what `remarks` says,
    `results` is the results folder as links of the README call it."""
    profile = frame["profile"].iloc[0]
    beside = [*(grid.markdown() for grid in said.grids), *([markdown.bullets(said.images)] if said.images else [])]
    return "\n\n".join(
        [
            BEGIN.format(profile=profile),
            *(["**In short.**\n" + markdown.bullets(said.short)] if said.short else []),
            _headline_markdown(rows),
            f"![{verdicts.described(verdicts.shown(frame))}]({results}/figures/{SUMMARY}.svg)",
            *(["### Beside the paper: a control, all networks, other images", *beside] if beside else []),
            "### The claims that have a verdict",
            f"Those with seeds enough, in the `{profile}` profile; [every claim]({results}/tables/{SUMMARY}.md), with "
            f"its reason, is in the summary. {wording.RULE}",
            summary.tested_markdown(frame, summary.TESTED) or "None yet.",
            "### Coverage",
            markdown.bullets(wording.conclusion(frame)),
            summary.counts_markdown(frame, by_kind=False),
            END,
        ]
    )


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
