"""The parts of index.html that summarise a results folder: short tables, the state of the grid, the plots."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape, unescape
from itertools import groupby
from pathlib import Path

import pandas as pd

from cds_lib.reporting import formats, naming, wording
from cds_lib.study.store import Store
from cds_lib.study.table import Table

# The columns of `formats` that the index shows, in fewer words.
SHORT_HEADINGS = dict(
    zip(
        (formats.HEADINGS[index] for index in (1, 3, 4, 5)),
        ("this study: mean ± std (n)", "difference to {} [95 % CI]", "published", "verdict"),
        strict=True,
    )
)
# A longer table is folded on the index.
FOLDED_ROWS = 12
DONE, PARTLY, FAILED, MISSING = "done", "partly", "failed", "not run"
SIGNS = {DONE: "●", PARTLY: "◐", FAILED: "✘", MISSING: "○"}


def short_table(frame: pd.DataFrame, table: Table) -> str:
    """The cells that have a run, without what the full report adds; a sentence where there are none."""
    rows = frame[frame["n"] > 0]
    if not len(rows):
        return "<p>No cell of it has been run.</p>"
    filled = [heading for heading in formats.filled_headings(frame) if heading in SHORT_HEADINGS]
    headings = SHORT_HEADINGS | {formats.HEADINGS[1]: formats.with_better(SHORT_HEADINGS[formats.HEADINGS[1]], frame)}
    said = ["method", *(headings[heading].format(table.reference) for heading in filled)]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in said)
    body = []
    names = formats.group_columns(frame)
    for _, grouped in groupby((row for _, row in rows.iterrows()), key=lambda row: tuple(row[names])):
        group = list(grouped)
        body.append(
            f"<tbody>{formats.group_row(formats.row_title(group[0], names), len(said))}"
            f"{''.join(_short_row(row, filled) for row in group)}</tbody>"
        )
    caption = f"<caption>{escape(wording.counted(len(rows), 'cell'))} of {len(frame)} with a run</caption>"
    table_text = f"<table>{caption}<thead><tr>{head}</tr></thead>{''.join(body)}</table>"
    text = formats.scrolling(table_text, f"{table.title}: cells that were run")
    if len(rows) > FOLDED_ROWS:
        return f"<details><summary>{escape(wording.counted(len(rows), 'measured cell'))}</summary>{text}</details>"
    return text


def _short_row(row: pd.Series, filled: list[str]) -> str:
    texts = formats.cells(row)
    if row["verdict"] in wording.SIGNS:
        texts["verdict"] = f"{wording.SIGNS[row['verdict']]} {row['verdict']}"
    kinds = ["verdict" if heading == "verdict" else "number" for heading in filled]
    columns = "".join(
        f'<td class="{kind}">{escape(texts[heading])}</td>' for kind, heading in zip(kinds, filled, strict=True)
    )
    return f'<tr><th scope="row">{escape(naming.method_name(row["method"]))}</th>{columns}</tr>'


def heat_map(frame: pd.DataFrame, table: Table, failed: Mapping[tuple[str, ...], int]) -> str:
    """The state of every cell of a table: networks (and what else varies) down, methods across.

    A cell shows a sign, and how many of the planned seeds are finished. `failed`: cell key -> failed runs.
    """
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    names = [name for name in formats.group_columns(first) if name != "metric"]
    methods = list(dict.fromkeys(first["method"]))
    head = "".join(f'<th scope="col">{escape(naming.method_name(method))}</th>' for method in methods)
    body = []
    for group, rows in first.groupby(names, sort=False):
        cells = {row["method"]: row for _, row in rows.iterrows()}
        states = "".join(_state_cell(cells.get(method), failed) for method in methods)
        body.append(f'<tr><th scope="row">{escape(naming.group_title(group))}</th>{states}</tr>')
    title = table.title.split(":")[0]
    caption = f"<caption>{escape(title)}</caption>"
    head = f'<thead><tr><th scope="col">network</th>{head}</tr></thead>'
    inner = f'<table class="heat">{caption}{head}<tbody>{"".join(body)}</tbody></table>'
    return formats.scrolling(inner, f"state of {title}")


def state(n: int, planned: int, failures: int) -> str:
    """What a cell's runs amount to."""
    if n >= planned:
        return DONE
    return PARTLY if n else FAILED if failures else MISSING


def _state_cell(row: pd.Series | None, failed: Mapping[tuple[str, ...], int]) -> str:
    if row is None:
        return '<td class="none">–</td>'
    failures = failed.get(tuple(row[["dataset", "model", "method", "setting"]]), 0)
    found = state(row["n"], row["n_planned"], failures)
    name = "not analysed" if found == MISSING and row["reason"] else found
    text = f"{SIGNS[found]} {row['n']}/{row['n_planned']} {name}"
    if failures and found != FAILED:
        text += f", {failures} failed"
    return f'<td class="{found.replace(" ", "-")}">{escape(text)}</td>'


def failed_cells(table: Table, profile: str, store: Store, failed_ids: set[str]) -> dict[tuple[str, ...], int]:
    """Cell key -> number of its seeds that a failed run keeps from finishing."""
    seeds = tuple(sorted({store.spec(run_id).seed for run_id in failed_ids}))
    found: dict[tuple[str, ...], int] = {}
    for cell in table.cells(profile, seeds) if seeds else ():
        stuck = [spec for spec in cell.specs if failed_ids & {run.id for run in spec.lineage}]
        if stuck:
            found[cell.key] = len(stuck)
    return found


def figure(path: Path) -> dict[str, str]:
    """A plot as data for the page; its title is what a screen reader says."""
    text = path.read_text(encoding="utf-8")
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.DOTALL)
    alt = unescape(title.group(1)).strip() if title else path.stem.replace("_", " ")
    data = base64.b64encode(text.encode()).decode("ascii")
    return {"name": path.stem, "alt": alt, "data": f"data:image/svg+xml;base64,{data}"}
