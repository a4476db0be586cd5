"""The claims and their verdicts as files and as HTML: csv, Markdown, LaTeX, the counts by table, and every claim."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd

from cds_lib.files import write_text
from cds_lib.reporting import formats, wording
from cds_lib.reporting.markdown import bullets, pipe_table
from cds_lib.study import profiles, statistics
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
    """Write RESULTS/tables/summary.csv, .md and .tex from the frame of `verdicts.tidy` and `verdicts.beside`."""
    base = Path(results) / "tables" / SUMMARY
    texts = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": markdown(frame, beside),
        "tex": latex(frame),
    }
    paths = {suffix: base.with_suffix(f".{suffix}") for suffix in texts}
    for suffix, text in texts.items():
        write_text(paths[suffix], text)
    return paths


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(table, kind, its claims), in the order of the frame."""
    for (table, kind), rows in frame.groupby(["claimed_in", "kind"], sort=False):
        yield table, kind, rows


def title(table: str) -> str:
    """A table's title, without what stands after the colon."""
    return TABLES[table].title.split(":")[0]


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
    lines = [shown, ["---"] * 2 + ["---:"] * 5 + ["---"]]
    lines += [[cells(row)[heading] for heading in shown] for _, row in rows.head(limit).iterrows()]
    more = f"\n\nAnd {len(rows) - limit} more." if limit is not None and len(rows) > limit else ""
    return pipe_table(lines) + more


def counts_markdown(frame: pd.DataFrame, by_kind: bool = True) -> str:
    """A pipe table with a row a table (and kind of claim), and a column a verdict that occurs."""
    verdicts = list(wording.counts(frame))
    lines = [["claims", "number", *(f"{wording.SIGNS[verdict]} {verdict}" for verdict in verdicts)]]
    lines.append(["---"] + ["---:"] * (len(verdicts) + 1))
    if by_kind:
        rows = {f"{title(table)}, {wording.KINDS[kind]}": claims for table, kind, claims in groups(frame)}
    else:
        rows = {title(str(table)): claims for table, claims in frame.groupby("claimed_in", sort=False)}
    for name, claims in rows.items():
        found = wording.counts(claims)
        lines.append([name, str(len(claims)), *(str(found.get(verdict, 0)) for verdict in verdicts)])
    return pipe_table(lines)


def markdown(frame: pd.DataFrame, beside: list[str]) -> str:
    """The conclusion, what is said beside it, the counts, and every claim, table by table."""
    parts = [
        f"# {TABLES[SUMMARY].title}",
        profiles.describe(frame["profile"].iloc[0]),
        bullets([*wording.conclusion(frame), *beside]),
        tested_markdown(frame),
        counts_markdown(frame),
    ]
    for table, kind, rows in groups(frame):
        lines = [list(HEADINGS), ["---"] * 2 + ["---:"] * 5 + ["---"] * 2]
        lines += [list(cells(row).values()) for _, row in rows.iterrows()]
        parts.append(f"## {title(table)}, {wording.KINDS[kind]}\n\n{pipe_table(lines)}\n\n{_sources(rows)}")
    return "\n\n".join([*filter(None, parts), "## How to read it", bullets(wording.notes(frame))]) + "\n"


def _sources(rows: pd.DataFrame) -> str:
    return f"Published: {'; '.join(dict.fromkeys(rows['source']))}."


def latex(frame: pd.DataFrame) -> str:
    """Every claim in a table that runs over pages; needs `booktabs` and `longtable`."""
    headings = " & ".join(map(formats.latex_escape, HEADINGS)) + r" \\"
    caption = " ".join([TABLES[SUMMARY].title + ".", *wording.notes(frame)])
    lines = [
        r"% needs \usepackage{booktabs,longtable}",
        r"{\scriptsize",
        r"\begin{longtable}{p{30mm}p{30mm}rrrrrp{18mm}p{40mm}}",
        rf"\caption{{{_latex(caption)}}}\label{{tab:{SUMMARY}}}\\",
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
        heading = _latex(f"{title(table)}, {wording.KINDS[kind]}")
        lines.append(rf"\multicolumn{{{len(HEADINGS)}}}{{l}}{{\textbf{{{heading}}}}} \\")
        lines += [" & ".join(map(_latex, cells(row).values())) + r" \\" for _, row in rows.iterrows()]
        lines.append(r"\midrule")
    return "\n".join([*lines[:-1], r"\bottomrule", r"\end{longtable}}", ""])


def _latex(text: str) -> str:
    """Escaped, without the signs, which few fonts of LaTeX have: the names of the verdicts stand beside them."""
    for sign in wording.SIGNS.values():
        text = text.replace(f"{sign} ", "")
    return formats.latex_escape(text)


# -- HTML --------------------------------------------------------------------------------------------------------------


def counts_html(frame: pd.DataFrame, link: str | None = "") -> str:
    """Counts by table and kind of claim: numbers and names in text, and a bar of signs that only repeats them.

    `link` is the address of the page with every claim, "" for the page itself, None without one.
    """
    rows = []
    for table, kind, claims in groups(frame):
        found = wording.counts(claims)
        bar = "".join(
            f'<span class="{_class(verdict)}" style="flex-grow:{number}">{wording.SIGNS[verdict]}</span>'
            for verdict, number in found.items()
        )
        text = ", ".join(f"{wording.SIGNS[verdict]} {number} {verdict}" for verdict, number in found.items())
        name = escape(title(table))
        if link is not None:
            name = f'<a href="{escape(link)}#{anchor(table, kind)}">{name}</a>'
        rows.append(
            f'<tr><th scope="row">{name}, {escape(wording.KINDS[kind])}</th><td class="number">{len(claims)}</td>'
            f'<td><span class="stack" aria-hidden="true">{bar}</span><span class="counts">{escape(text)}</span></td>'
            "</tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("published claims", "number", "verdicts"))
    legend = "".join(
        f"<li>{wording.SIGNS[verdict]} <strong>{escape(verdict)}</strong>: {escape(wording.MEANINGS[verdict])}</li>"
        for verdict in wording.counts(frame)
    )
    return (
        '<figure class="table verdicts"><table><caption>Verdicts on the published claims, by table</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f'<figcaption><ul class="notes">{legend}</ul></figcaption></figure>'
    )


def tested_html(frame: pd.DataFrame) -> str:
    """The claims that have seeds enough for a verdict, without its reason; folded if they are many, "" without any."""
    rows = wording.tested(frame)
    if not len(rows):
        return ""
    name = f"{counted(len(rows), 'claim')} with at least {statistics.MIN_SEEDS} paired seeds"
    table = _claims_table(name, rows, with_why=False)
    if len(rows) > TESTED:
        return f'<details class="claims"><summary>{escape(name)}</summary>{table}</details>'
    return f'<figure class="table claims">{table}</figure>'


def claims_html(frame: pd.DataFrame) -> str:
    """Every claim, a foldable table a group; groups with a finished run are open."""
    return "".join(_group_html(table, kind, rows) for table, kind, rows in groups(frame))


def _group_html(table_name: str, kind: str, rows: pd.DataFrame) -> str:
    name = f"{title(table_name)}, {wording.KINDS[kind]}"
    table = _claims_table(name, rows, with_why=True)
    return (
        f'<details class="claims" id="{anchor(table_name, kind)}"{" open" if rows["n_pairs"].any() else ""}>'
        f"<summary>{escape(name)}: {escape(wording.in_words(rows))}</summary>{table}"
        f"<p>{escape(_sources(rows))}</p></details>"
    )


def _claims_table(name: str, rows: pd.DataFrame, with_why: bool) -> str:
    """A row a claim. With the reasons it stands below a heading that says its name, else the caption does."""
    headings = ("claim", *HEADINGS[2:5], "p (Holm's p)", "verdict and why" if with_why else "verdict")
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(_claim_html(row, with_why) for _, row in rows.iterrows())
    said = f"<caption{' class=unseen' if with_why else ''}><span>{escape(name)}</span></caption>"
    return formats.scrolling(f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", name)


def _claim_html(row: pd.Series, with_why: bool) -> str:
    """A row of the page: the place below the claim, both p values in one cell, the reason below the verdict."""
    claim, where, published, ours, seeds, p_value, p_holm, verdict, why = (escape(t) for t in cells(row).values())
    both = p_value if pd.isna(row["p_value"]) else f"{p_value} ({p_holm})"
    numbers = "".join(f'<td class="number">{text}</td>' for text in (published, ours, seeds, both))
    missing = "" if row["n_pairs"] else ' class="missing"'
    below = f'<span class="below">{why}</span>' if with_why else ""
    where = ", ".join(f'<span class="keep">{part}</span>' for part in where.split(", "))
    return (
        f'<tr{missing}><th scope="row">{claim}<span class="below">{where}</span></th>{numbers}'
        f'<td><span class="{_class(row["verdict"])}">{verdict}</span>{below}</td></tr>'
    )


def _class(verdict: str) -> str:
    """The verdict's class in the style sheet."""
    return verdict.split(" (")[0].replace(" ", "-")


def anchor(table: str, kind: str) -> str:
    """Where the claims of a table and kind stand on their page."""
    return f"claims-{table}-{kind}"
