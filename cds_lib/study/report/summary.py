"""The claims and their verdicts as files: csv, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cds_lib.study import formats, protocols, statistics
from cds_lib.study.report import latex, markdown, report, wording
from cds_lib.study.tables import SUMMARY, TABLES

HEADINGS = (
    "claim",
    "where",
    "published",
    "this study [95 % CI]",
    "paired seeds",
    "p",
    "Holm's p",
    "verdict",
    "why",
)


def write(frame: pd.DataFrame, results: Path) -> dict[str, Path]:
    """Write RESULTS/tables/summary.csv, .md and .tex."""
    return report.write_files(SUMMARY, frame, _markdown(frame), _latex(frame), results)


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(table, kind, its claims), in the order of the frame."""
    for (table, kind), rows in frame.groupby(["claimed_in", "kind"], sort=False):
        yield table, kind, rows


def title(table: str) -> str:
    """A table's title."""
    return TABLES[table].title


def cells(row: pd.Series) -> dict[str, str]:
    """One printed claim: heading -> text."""
    wanted = f"{row['n_pairs']}"
    if row["n_pairs"] < row["n_wanted"]:
        few = row["n_planned"] < statistics.MIN_SEEDS  # the plan cannot give a verdict
        wanted += f" ({statistics.MIN_SEEDS} needed)" if few else f" of {row['n_wanted']}"
    texts = (
        wording.statement(row),
        wording.place(row),
        wording.published(row),
        wording.difference(row),
        wanted,
        _p_value(row["p_value"]),
        _p_value(row["p_holm"]),
        f"{wording.SIGNS[row['verdict']]} {row['verdict']}",
        row["why"],
    )
    return dict(zip(HEADINGS, texts, strict=True))


def _p_value(value: float) -> str:
    return formats.EMPTY if pd.isna(value) else f"{value:.3f}"


# -- files -------------------------------------------------------------------------------------------------------------


def tested_markdown(frame: pd.DataFrame, limit: int | None = None) -> str:
    """A pipe table of the claims that have seeds enough for a verdict, or the first of them; "" if there are none."""
    rows = wording.tested(frame)
    if not len(rows):
        return ""
    shown = [heading for heading in HEADINGS if heading != "why"]
    lines = [[cells(row)[heading] for heading in shown] for _, row in rows.head(limit).iterrows()]
    more = f"\n\nAnd {len(rows) - limit} more." if limit is not None and len(rows) > limit else ""
    return markdown.pipe_table(shown, "llrrrrrl", lines) + more


def counts_markdown(frame: pd.DataFrame, by_kind: bool = True) -> str:
    """A pipe table with a row a table (and kind of claim), and a column a verdict that occurs."""
    verdicts = list(wording.counts(frame))
    headings = ["claims", "number", *(f"{wording.SIGNS[verdict]} {verdict}" for verdict in verdicts)]
    if by_kind:
        rows = {f"{title(table)}, {wording.KINDS[kind]}": claims for table, kind, claims in groups(frame)}
    else:
        rows = {title(str(table)): claims for table, claims in frame.groupby("claimed_in", sort=False)}
    lines = []
    for name, claims in rows.items():
        found = wording.counts(claims)
        lines.append([name, str(len(claims)), *(str(found.get(verdict, 0)) for verdict in verdicts)])
    return markdown.pipe_table(headings, "lr" + "r" * len(verdicts), lines)


def _markdown(frame: pd.DataFrame) -> str:
    """The conclusion, the counts, and every claim, table by table."""
    parts = [
        f"# {TABLES[SUMMARY].heading}",
        protocols.DESCRIPTIONS[frame["profile"].iloc[0]],
        markdown.bullets(wording.conclusion(frame)),
        tested_markdown(frame),
        counts_markdown(frame),
    ]
    for table, kind, rows in groups(frame):
        lines = markdown.pipe_table(HEADINGS, "llrrrrrll", [list(cells(row).values()) for _, row in rows.iterrows()])
        parts.append(f"## {title(table)}, {wording.KINDS[kind]}\n\n{lines}\n\n{_sources(rows)}")
    return "\n\n".join([*filter(None, parts), "## How to read it", markdown.bullets(wording.notes(frame))]) + "\n"


def _sources(rows: pd.DataFrame) -> str:
    return f"Published: {'; '.join(dict.fromkeys(rows['source']))}."


def _latex(frame: pd.DataFrame) -> str:
    """Every claim in a table that runs over pages; needs `booktabs` and `longtable`."""
    headings = latex.row(HEADINGS)
    caption = " ".join([TABLES[SUMMARY].heading + ".", *wording.notes(frame)])
    lines = [
        r"% needs \usepackage{booktabs,longtable}",
        r"{\scriptsize",
        r"\begin{longtable}{p{30mm}p{30mm}rrrrrp{18mm}p{40mm}}",
        rf"\caption{{{latex.escape(_unsigned(caption))}}}\label{{tab:{SUMMARY}}}\\",
        r"\toprule",
        headings,
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        headings,
        r"\midrule",
        r"\endhead",
    ]
    for table, kind, rows in groups(frame):
        heading = latex.escape(f"{title(table)}, {wording.KINDS[kind]}")
        lines.append(rf"\multicolumn{{{len(HEADINGS)}}}{{l}}{{\textbf{{{heading}}}}} \\")
        lines += [latex.row(map(_unsigned, cells(row).values())) for _, row in rows.iterrows()]
        lines.append(r"\midrule")
    return "\n".join([*lines[:-1], r"\bottomrule", r"\end{longtable}}", ""])


def _unsigned(text: str) -> str:
    """Without the signs, which few fonts of LaTeX have: the names of the verdicts stand beside them."""
    for sign in wording.SIGNS.values():
        text = text.replace(f"{sign} ", "")
    return text
