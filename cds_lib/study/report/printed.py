"""How a table of the study is printed: its cells and notes as text, and the same text as Markdown, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pandas as pd

from cds_lib.study import naming, statistics
from cds_lib.study.formats import EMPTY, difference, mean_std_n, number, signed
from cds_lib.study.measures import Measure, measure, short_name
from cds_lib.study.report import latex, markdown
from cds_lib.study.table import Table

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


def finished(frame: pd.DataFrame) -> tuple[int, int]:
    """Runs of the cells that are finished, and planned; a run that fills several measures counts once."""
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    return int(first["n"].sum()), int(first["n_planned"].sum())


def group_columns(frame: pd.DataFrame) -> list[str]:
    """What names a group of rows: the model, and whatever else varies in this table."""
    return [name for name in ("dataset", "model", "setting", "metric") if name == "model" or frame[name].nunique() > 1]


def grouped(frame: pd.DataFrame, groups: Sequence[str]) -> Iterator[list[pd.Series]]:
    """The rows, those of a group together."""
    for _, rows in groupby((row for _, row in frame.iterrows()), key=lambda row: tuple(row[groups])):
        yield list(rows)


def notes(frame: pd.DataFrame, table: Table) -> list[str]:
    """What a reader must know to read the numbers, beside what the profile runs: one sentence or two an item."""
    measures = list(dict.fromkeys(measure(metric) for metric in frame["metric"]))
    sides = list(dict.fromkeys(found.better for found in measures))
    metrics = "; ".join(found.long if len(sides) == 1 else f"{found.long} ({found.better})" for found in measures)
    metrics += f"; {sides[0]}" if len(sides) == 1 else ""
    headline = next((measure(metric).short for metric in frame["metric"] if metric in BEST_EPOCH), "")
    best = (
        f" The best epoch is that of the tested ones with the highest {headline} on the test set: optimistic, and "
        "never the headline."
        if headline
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
    columns = "l" * len(groups) + "lrrrrrll"
    rows = [[*_names(row, groups), *cells(row).values()] for _, row in frame.iterrows()]
    lines = markdown.pipe_table([*groups, "method", *headings(table)], columns, rows)
    said = markdown.bullets(_file_notes(frame, table))
    text = f"# {table.heading}\n\n{lines}\n\n{said}\n"
    return text.replace("<", "&lt;")  # Markdown would take it for HTML


def _names(row: pd.Series, groups: list[str]) -> list[str]:
    """What stands before a row's numbers: its groups and its method."""
    titles = [short_name(row[name]) if name == "metric" else naming.name_of(row[name]) for name in groups]
    return [*titles, naming.method_name(row["method"])]


def latex_table(frame: pd.DataFrame, table: Table) -> str:
    """A booktabs table environment; needs `\\usepackage{booktabs}`. A rule separates the groups."""
    groups = group_columns(frame)
    caption = f"{table.heading}. {' '.join(_file_notes(frame, table))}"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\scriptsize",
        rf"\caption{{{latex.escape(caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{'l' * len(groups)}lrrrrrlp{{30mm}}}}",
        r"\toprule",
        latex.row([*groups, "method", *headings(table)]),
    ]
    for rows in grouped(frame, groups):
        lines.append(r"\midrule")
        lines += [latex.row([*_names(row, groups), *cells(row).values()]) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])
