"""How a table is printed: the cells as text, and the same text as Markdown, LaTeX and HTML.

The numbers stay numeric in the csv; everything here is for reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from itertools import groupby

import pandas as pd

from cds_lib.reporting import markdown, naming
from cds_lib.study import statistics
from cds_lib.study.measures import Measure, measure, short_name
from cds_lib.study.table import Table

EMPTY = "–"
_NOTHING = 1e-9  # what is smaller is 0 but for rounding
_BOLD = (
    "Bold: the best mean of its group, where the interval of its difference to the reference leaves out 0; it need not "
    "be told apart from the second best."
)
# The headline measures, by which a run's best epoch is chosen.
BEST_EPOCH = ("test_top1_last", "test_ap_last")

HEADINGS = (
    "paper",
    "this study, last epoch: mean ± std (n)",
    "best epoch",
    "difference to baseline [95 % CI]",
    "paper difference",
    "verdict",
    "runs",
)


def headings(table: Table) -> list[str]:
    """The headings of the printed columns, with the table's own word for what differences are taken to."""
    return [heading.replace("to baseline", f"to {table.reference}") for heading in HEADINGS]


def with_better(heading: str, frame: pd.DataFrame) -> str:
    """The heading of a column of values, which says what is better where no `row_title` does."""
    return heading if "metric" in group_columns(frame) else f"{heading}; {measure(frame['metric'].iloc[0]).better}"


def row_title(row: pd.Series, groups: Iterable[str]) -> str:
    """The heading of the group that a row is in; where it names the metric, it says what is better."""
    return naming.group_title(
        f"{short_name(row[name])} ({measure(row[name]).better})" if name == "metric" else row[name] for name in groups
    )


def number(value: float, decimals: int = 2) -> str:
    """`77.18`, `−0.50` with a real minus sign; what is not 0 has as many decimals as it takes to show: `0.004`."""
    size = abs(value)
    if size < _NOTHING:
        value = 0.0
    elif float(f"{size:.{decimals}f}") == 0:
        decimals = math.ceil(-math.log10(size))
    return f"{value:.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int = 2) -> str:
    """`+1.25`, `−0.50`, `0.00` without a sign; decimals as in `number`."""
    text = number(value, decimals)
    return f"+{text}" if value >= _NOTHING else text


def mean_std_n(mean: float, std: float, n: int, n_planned: int | None = None, decimals: int = 2) -> str:
    """`77.18 ± 0.12 (5)`; `77.18 (1)` without a deviation; `(3 of 5)` while runs are missing; `not run`."""
    if n == 0:
        return "not run"
    count = f"{n} of {n_planned}" if n_planned is not None and n < n_planned else f"{n}"
    deviation = "" if pd.isna(std) else f" ± {number(std, decimals)}"
    return f"{number(mean, decimals)}{deviation} ({count})"


def difference(delta: float, low: float, high: float, decimals: int = 2) -> str:
    """`+1.25 [+0.50, +2.00]`; without the interval where there are too few seeds for one."""
    if pd.isna(delta):
        return EMPTY
    interval = "" if pd.isna(low) else f" [{signed(low, decimals)}, {signed(high, decimals)}]"
    return signed(delta, decimals) + interval


def cells(row: pd.Series) -> dict[str, str]:
    """One printed row: heading -> text."""
    decimals = measure(row["metric"]).decimals
    best = mean_std_n(row["best_mean"], row["best_std"], row["n"])
    texts = (
        EMPTY if pd.isna(row["paper"]) else number(row["paper"], decimals),
        mean_std_n(row["mean"], row["std"], row["n"], row["n_planned"], decimals),
        EMPTY if pd.isna(row["best_mean"]) else best.removesuffix(f" ({row['n']})"),
        difference(row["baseline_delta"], row["ci_low"], row["ci_high"], decimals) + _pairs(row),
        EMPTY if pd.isna(row["paper_delta"]) else signed(row["paper_delta"], decimals),
        row["verdict"] or EMPTY,
        row["runs"] or EMPTY,
    )
    return dict(zip(HEADINGS, texts, strict=True))


def _pairs(row: pd.Series) -> str:
    """How many seeds a difference rests on, where its own mean rests on more."""
    fewer = 0 < row["n_pairs"] < row["n"]
    return f" ({row['n_pairs']} {'pair' if row['n_pairs'] == 1 else 'pairs'})" if fewer else ""


def filled_headings(frame: pd.DataFrame) -> list[str]:
    """The headings of the columns that can say something in this table, for a screen, where the others are left out:
    nothing may have been published, and most measures have no best epoch."""
    empty = {
        HEADINGS[0]: frame["paper"].isna().all(),
        HEADINGS[2]: not frame["metric"].isin(BEST_EPOCH).any(),
        HEADINGS[4]: frame["paper_delta"].isna().all(),
        HEADINGS[5]: frame["paper_delta"].isna().all(),
    }
    return [heading for heading in HEADINGS if not empty.get(heading)]


def finished(frame: pd.DataFrame) -> tuple[int, int]:
    """Runs of the cells that are finished, and planned; a run that fills several measures counts once."""
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    return int(first["n"].sum()), int(first["n_planned"].sum())


def group_columns(frame: pd.DataFrame) -> list[str]:
    """What names a group of rows: the model, and whatever else varies in this table."""
    return [name for name in ("dataset", "model", "setting", "metric") if name == "model" or frame[name].nunique() > 1]


def notes(frame: pd.DataFrame, table: Table) -> list[str]:
    """What a reader must know to read the numbers, beside what the profile runs: one sentence or two an item."""
    measures = list(dict.fromkeys(measure(metric) for metric in frame["metric"]))
    sides = list(dict.fromkeys(found.better for found in measures))
    metrics = "; ".join(found.long if len(sides) == 1 else f"{found.long} ({found.better})" for found in measures)
    metrics += f"; {sides[0]}" if len(sides) == 1 else ""
    best = (
        " The best epoch is that of the tested ones with the highest accuracy on the test set: optimistic, and never "
        "the headline (the released code reports it, and tests every epoch)."
        if any(metric in BEST_EPOCH for metric in frame["metric"])
        else ""
    )
    done, planned = finished(frame)
    seeds = " to ".join(map(str, sorted({int(frame["n_planned"].min()), int(frame["n_planned"].max())})))
    return [
        f"{'Metric' if len(measures) == 1 else 'Metrics'}: {metrics}. Mean ± sample standard deviation over n seeds "
        f"(planned: {seeds} per cell; {done} of the {planned} runs that fill a cell are finished).{best}",
        f"Differences are in {_units(measures)}, paired by seed, with the 95 % t interval of their mean. They are over "
        "the seeds that both have, so they need not be the difference of the two means.",
        *_on_verdicts(frame),
        f"Published numbers: {table.source}.",
        *_reasons(frame),
    ]


def _units(measures: list[Measure]) -> str:
    """`percentage points`; `percentage points (ECE, top-1) and nats (NLL)` where measures differ."""
    by_unit: dict[str, list[str]] = {}
    for found in measures:
        by_unit.setdefault(found.unit or "their own unit", []).append(found.short)
    if len(by_unit) == 1:
        return next(iter(by_unit))
    return " and ".join(f"{unit} ({', '.join(names)})" for unit, names in by_unit.items())


def _on_verdicts(frame: pd.DataFrame) -> list[str]:
    """What the verdicts follow; nothing of a table without any."""
    if frame["paper_delta"].isna().all():
        return []
    if frame["profile"].iloc[0] == "smoke":
        return ["Verdicts mean nothing in the smoke profile."]
    return [f"Verdicts follow a rule fixed before running; fewer than {statistics.MIN_SEEDS} seeds are inconclusive."]


def _file_notes(frame: pd.DataFrame, table: Table) -> list[str]:
    """The notes of a file, which no page is around."""
    why = "Why numbers differ from the paper: docs/deviations.md."
    return [table.describe(frame["profile"].iloc[0]), *notes(frame, table), why]


def _reasons(frame: pd.DataFrame) -> list[str]:
    """Why finished runs have no value, one sentence a reason."""
    rows = frame[frame["reason"] != ""]
    return [
        f"{reason}, in {len(group)} of {len(frame)} rows: an analysis needs the weights of its runs (model.pt), which "
        "are not kept with committed results."
        for reason, group in rows.groupby("reason", sort=False)
    ]


def markdown_table(frame: pd.DataFrame, table: Table) -> str:
    """A pipe table with the notes below."""
    groups = group_columns(frame)
    lines = [[*groups, "method", *headings(table)]]
    lines.append(["---"] * len(groups) + ["---"] + ["---:"] * 5 + ["---", "---"])
    for _, row in frame.iterrows():
        lines.append([*_names(row, groups), *cells(row).values()])
    said = markdown.bullets(_file_notes(frame, table))
    text = f"# {table.title}\n\n{markdown.pipe_table(lines)}\n\n{said}\n"
    return text.replace("<", "&lt;")  # Markdown would take it for HTML


def _names(row: pd.Series, groups: list[str]) -> list[str]:
    """What stands before a row's numbers: its groups and its method."""
    titles = [short_name(row[name]) if name == "metric" else naming.name_of(row[name]) for name in groups]
    return [*titles, naming.method_name(row["method"])]


_LATEX = {
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


def latex_escape(text: str) -> str:
    """Text in which LaTeX sees nothing but text."""
    return "".join(_LATEX.get(character, character) for character in text)


def latex_table(frame: pd.DataFrame, table: Table) -> str:
    """A booktabs table environment; needs `\\usepackage{booktabs}`. A rule separates the groups."""
    groups = group_columns(frame)
    columns = "l" * (len(groups) + 1) + "rrrrr" + "lp{30mm}"
    columns_named = [*groups, "method", *headings(table)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\scriptsize",
        rf"\caption{{{latex_escape(table.title)}. {latex_escape(' '.join(_file_notes(frame, table)))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(latex_escape(heading) for heading in columns_named) + r" \\",
    ]
    for _, rows in groupby((row for _, row in frame.iterrows()), key=lambda row: tuple(row[groups])):
        lines.append(r"\midrule")
        for row in rows:
            texts = [*_names(row, groups), *cells(row).values()]
            lines.append(" & ".join(latex_escape(text) for text in texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _best_rows(rows: list[pd.Series]) -> set[int]:
    """Index of the best row of a group among those with seeds enough, if the interval of its difference to the
    reference leaves out 0; nothing for smoke numbers, a lone row, a tie, or a metric without a better side."""
    measured = [row for row in rows if row["n"] >= statistics.MIN_SEEDS]
    best = {"highest": max, "lowest": min}.get(measure(rows[0]["metric"]).best)
    if best is None or len(measured) < 2 or measured[0]["profile"] == "smoke":
        return set()
    first = best(measured, key=lambda row: row["mean"])
    told_apart = first["ci_low"] > 0 or first["ci_high"] < 0
    return {first.name} if told_apart and sum(row["mean"] == first["mean"] for row in measured) == 1 else set()


def bullets(sentences: Iterable[str]) -> str:
    """A list of plain sentences in HTML; "" of none."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def scrolling(table: str, label: str) -> str:
    """A `<table>` in a region of this name that scrolls by itself on a narrow screen, by keyboard as well."""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label, quote=True)}" tabindex="0" '
        f'style="overflow-x:auto">{table}</div>'
    )


def group_row(title: str, columns: int) -> str:
    """The row above a group of rows; its text stays in view, the table scrolls."""
    return f'<tr class="group"><th scope="rowgroup" colspan="{columns}"><span>{escape(title)}</span></th></tr>'


def html_table(frame: pd.DataFrame, table: Table) -> str:
    """A semantic table in a figure that scrolls by itself on a narrow screen, for a page that says what the profile
    runs; the best mean of a group is bold where it can be told from the reference."""
    groups = group_columns(frame)
    filled = filled_headings(frame)
    named = dict(zip(HEADINGS, headings(table), strict=True))
    named[HEADINGS[1]] = with_better(named[HEADINGS[1]], frame)
    head = '<th scope="col">method</th>' + "".join(
        f'<th scope="col"{" class=runs" if name == "runs" else ""}>{escape(named[name])}</th>' for name in filled
    )
    body, bold = [], False
    for _, grouped in groupby((row for _, row in frame.iterrows()), key=lambda row: tuple(row[groups])):
        rows = list(grouped)
        best = _best_rows(rows)
        bold = bold or bool(best)
        body.append(f"<tbody>{group_row(row_title(rows[0], groups), 1 + len(filled))}")
        body += [_html_row(row, filled, row.name in best) for row in rows]
        body.append("</tbody>")
    said = [*notes(frame, table), *([_BOLD] if bold else [])]
    items = "".join(f"<li>{escape(note)}</li>" for note in said)
    caption = f"<caption><span>{escape(table.title)}</span></caption>"  # the span stays in view, the table scrolls
    inner = f"<table>{caption}<thead><tr>{head}</tr></thead>" + "\n".join(body) + "</table>"
    notes_below = f'<figcaption><ul class="notes">{items}</ul></figcaption>'
    return f'<figure class="table">{scrolling(inner, table.title)}{notes_below}</figure>'


def _html_row(row: pd.Series, filled: list[str], best: bool) -> str:
    texts = cells(row)
    parts = [f'<th scope="row">{escape(naming.method_name(row["method"]))}</th>']
    for heading in filled:
        content = escape(texts[heading])
        if heading == "runs" and row["runs"]:
            ids = "".join(f"<code>{escape(run)}</code> " for run in row["runs"].split())
            content = f"<details><summary>{len(row['runs'].split())}</summary>{ids.strip()}</details>"
        elif heading == HEADINGS[1] and best:
            content = f"<strong>{content}</strong>"
        kind = "verdict " + row["verdict"].split(" (")[0].replace(" ", "-") if heading == "verdict" else "number"
        parts.append(f'<td class="{"runs" if heading == "runs" else escape(kind.strip())}">{content}</td>')
    missing = ' class="missing"' if row["n"] == 0 else ""
    return f"<tr{missing}>{''.join(parts)}</tr>"
