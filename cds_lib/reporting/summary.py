"""The claims and their verdicts as files and as HTML: csv, Markdown, LaTeX, the counts by table, and every claim."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from cds_lib.reporting import formats, html, latex, markdown, report, wording
from cds_lib.study import protocols, statistics
from cds_lib.study.tables import SUMMARY, TABLES
from cds_lib.text import counted

TESTED = 20  # claims with enough seeds that the README names at most, and that the index shows unfolded
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


def write(frame: pd.DataFrame, results: Path, beside: list[str]) -> dict[str, Path]:
    """Write RESULTS/tables/summary.csv, .md and .tex; `beside` is said after the conclusion of the frame."""
    return report.write_files(SUMMARY, frame, _markdown(frame, beside), _latex(frame), results)


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


def _markdown(frame: pd.DataFrame, beside: list[str]) -> str:
    """The conclusion, what is said beside it, the counts, and every claim, table by table."""
    parts = [
        f"# {TABLES[SUMMARY].heading}",
        protocols.DESCRIPTIONS[frame["profile"].iloc[0]],
        markdown.bullets([*wording.conclusion(frame), *beside]),
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


# -- HTML --------------------------------------------------------------------------------------------------------------


def counts_html(frame: pd.DataFrame, link: str | None = "") -> Markup:
    """Counts by table and kind of claim: numbers and names in text, and a bar of signs that only repeats them.

    `link` is the address of the page with every claim, "" for the page itself, None without one.
    """
    rows = []
    for table, kind, claims in groups(frame):
        found = wording.counts(claims)
        bar = Markup("").join(
            html.element(f'span style="flex-grow:{number}"', wording.SIGNS[verdict], html.kind(verdict))
            for verdict, number in found.items()
        )
        text = ", ".join(f"{wording.SIGNS[verdict]} {number} {verdict}" for verdict, number in found.items())
        both = html.element('span aria-hidden="true"', bar, "stack") + html.element("span", text, "counts")
        name = title(table)
        if link is not None:
            name = html.element(f'a href="{escape(link)}#{anchor(table, kind)}"', name)
        columns = [html.Cell(str(len(claims)), "number"), html.Cell(both)]
        rows.append(html.row(name + f", {wording.KINDS[kind]}", columns))
    legend = [
        Markup(f"{wording.SIGNS[verdict]} ") + html.element("strong", verdict) + f": {wording.MEANINGS[verdict]}"
        for verdict in wording.counts(frame)
    ]
    caption = "Verdicts on the published claims, by table"
    head = map(html.Cell, ("published claims", "number", "verdicts"))
    table = html.table(head, [rows], caption, html.Cell(caption))
    return html.figure(table, html.bullets(legend, "notes"), "verdicts")


def tested_html(frame: pd.DataFrame) -> Markup:
    """The claims that have seeds enough for a verdict, without its reason; folded if they are many, "" without any."""
    rows = wording.tested(frame)
    if not len(rows):
        return Markup("")
    name = f"{counted(len(rows), 'claim')} with at least {statistics.MIN_SEEDS} paired seeds"
    table = _claims_table(name, rows, with_why=False)
    if len(rows) > TESTED:
        return html.element("details", html.element("summary", name) + table, "claims")
    return html.figure(table, kind="claims")


def claims_html(frame: pd.DataFrame) -> Markup:
    """Every claim, a foldable table a group; groups with a finished run are open."""
    return Markup("").join(_group_html(table, kind, rows) for table, kind, rows in groups(frame))


def _group_html(table_name: str, kind: str, rows: pd.DataFrame) -> Markup:
    name = f"{title(table_name)}, {wording.KINDS[kind]}"
    summary = html.element("summary", f"{name}: {wording.in_words(rows)}")
    content = summary + _claims_table(name, rows, with_why=True) + html.element("p", _sources(rows))
    is_open = " open" if rows["n_pairs"].any() else ""
    return html.element(f'details id="{anchor(table_name, kind)}"{is_open}', content, "claims")


def _claims_table(name: str, rows: pd.DataFrame, with_why: bool) -> Markup:
    """A row a claim. With the reasons it stands below a heading that says its name, else the caption does."""
    head = map(html.Cell, ("claim", *HEADINGS[2:5], "p (Holm's p)", "verdict and why" if with_why else "verdict"))
    body = [_claim_html(row, with_why) for _, row in rows.iterrows()]
    return html.table(head, [body], name, html.Cell(name, "unseen" if with_why else ""))


def _claim_html(row: pd.Series, with_why: bool) -> Markup:
    """A row of the page: the place below the claim, both p values in one cell, the reason below the verdict."""
    claim, where, *numbers, p_holm, verdict, why = cells(row).values()
    if pd.notna(row["p_value"]):
        numbers[-1] += f" ({p_holm})"
    where = Markup(", ").join(html.element("span", part, "keep") for part in where.split(", "))
    said = html.element("span", verdict, html.kind(row["verdict"]))
    if with_why:
        said += html.element("span", why, "below")
    columns = [*(html.Cell(number, "number") for number in numbers), html.Cell(said)]
    return html.row(claim + html.element("span", where, "below"), columns, "" if row["n_pairs"] else "missing")


def anchor(table: str, kind: str) -> str:
    """Where the claims of a table and kind stand on their page."""
    return f"claims-{table}-{kind}"
