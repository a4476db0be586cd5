"""What the notebook of deviations shows: the table of docs/deviations.md, and what switching them changed."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from IPython.display import HTML, SVG
from markupsafe import Markup

from cds_lib.checkout import CHECKOUT
from cds_lib.findings import control
from cds_lib.reporting import figures, formats, html, naming, report, views
from cds_lib.study import statistics

if TYPE_CHECKING:
    from cds_lib.session import Session

PAGE = CHECKOUT / "docs" / "deviations.md"
_SECTION = "## Where the sources differ, or look odd\n"


def documented() -> list[list[str]]:
    """The lines of the page's table as cells of Markdown, the headings first."""
    section = PAGE.read_text(encoding="utf-8").split(_SECTION)[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[:1] + lines[2:]]


def documented_table() -> HTML:
    """Every deviation: what the paper says, what the released code does, our default, and whether it can matter."""
    headings, *lines = documented()
    rows = [html.row(name, [html.Cell(_inline(cell)) for cell in cells]) for name, *cells in lines]
    table = html.table(map(html.Cell, headings), [rows], "deviations")
    source = "Source: docs/deviations.md. A dash: the source is silent, or not concerned."
    return HTML(html.figure(table, source, "deviations"))


def _inline(markdown: str) -> Markup:
    """Code in backticks, and links by their text; the page's cells have no other markup."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", escape(markdown))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", text))


def switched_rows(study: Session) -> pd.DataFrame:
    """The rows of the tidy result that are compared with a default run."""
    compared = [cell.reference is not None for cell in study.table.cells(study.profile, study.seeds)]
    return study.frame()[compared]


def differences(study: Session) -> SVG:
    """What every switch changed; written to RESULTS/figures/<table>.svg."""
    description = "Difference of each switched run to its default in percentage points, with its interval."
    return views.save_and_show(study, figures.switches(switched_rows(study)), description)


def conclusion(study: Session) -> HTML:
    """Which switches changed the result, and how much the best epoch flatters, in words."""
    frame = study.frame()
    sentences: list[str] = []
    if study.profile != "smoke":
        sentences += [*_changed(switched_rows(study)), *control.in_short(study.profile, study.seeds, study.store)]
        sentences += _best_epoch(frame)
    return HTML(html.bullets([*sentences, *report.state(frame)]))


def _changed(rows: pd.DataFrame) -> list[str]:
    """Switches whose interval leaves out zero, and what chance alone would give."""
    decided = rows[rows["n_pairs"] >= statistics.MIN_SEEDS]
    if decided.empty:
        return [f"No switch has {statistics.MIN_SEEDS} seeds yet: nothing is decided."]
    away = decided[(decided["ci_low"] > 0) | (decided["ci_high"] < 0)]
    named = "; ".join(
        f"{naming.group_title([row['dataset'], row['setting']])}: {naming.method_name(row['method'])} "
        f"{formats.difference(row['baseline_delta'], row['ci_low'], row['ci_high'])}"
        for _, row in away.iterrows()
    )
    chance = (1 - statistics.CONFIDENCE) * len(decided)
    return [
        f"Switches with {statistics.MIN_SEEDS} seeds or more: {len(decided)}; with a 95 % interval that leaves out "
        f"zero: {len(away)}{' – ' + named if named else ''}.",
        f"Chance alone would be expected to give {chance:.1f} such switches, since no interval is corrected for the "
        "number of switches.",
    ]


def _best_epoch(frame: pd.DataFrame) -> list[str]:
    """How much higher the best tested epoch is than the last, over all finished cells."""
    flattery = (frame["best_mean"] - frame["mean"]).dropna()
    if flattery.empty:
        return []
    return [
        f"Choosing the best tested epoch on the test set instead of the last adds {np.mean(flattery):.2f} points on "
        f"average over the {len(flattery)} rows that were run, and {np.max(flattery):.2f} at most (D12); "
        "where not every epoch was tested, as in the miniature, testing all would add more."
    ]
