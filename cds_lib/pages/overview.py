"""The parts of index.html that summarise a results folder: short tables, the state of their runs, the plots."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from cds_lib.reporting import formats, html, naming, printed, wording
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.text import counted

# The columns of `printed` that the index shows, in fewer words.
SHORT_HEADINGS = dict(
    zip(
        (printed.HEADINGS[index] for index in (1, 3, 4, 5)),
        ("this study: mean ± std (n)", "difference to {} [95 % CI]", "published", "verdict"),
        strict=True,
    )
)
# A longer table is folded on the index.
FOLDED_ROWS = 12
DONE, PARTLY, FAILED, MISSING = "done", "partly", "failed", "not run"
_NO_CELL = html.Cell(formats.EMPTY, "none")
SIGNS = {DONE: "●", PARTLY: "◐", FAILED: "✘", MISSING: "○"}


def short_table(frame: pd.DataFrame, table: Table) -> Markup:
    """The cells that have a run, without what the full report adds; a sentence where there are none."""
    rows = frame[frame["n"] > 0]
    if not len(rows):
        return html.paragraphs(["No cell of it has been run."])
    filled = [heading for heading in printed.filled_headings(frame) if heading in SHORT_HEADINGS]
    headings = SHORT_HEADINGS | {printed.HEADINGS[1]: printed.with_better(SHORT_HEADINGS[printed.HEADINGS[1]], frame)}
    named = ["method", *(headings[heading].format(table.reference) for heading in filled)]
    groups = printed.group_columns(frame)
    bodies = [
        [html.group(printed.row_title(group[0], groups), len(named)), *(_short_row(row, filled) for row in group)]
        for group in printed.grouped(rows, groups)
    ]
    protocol = f". {table.protocol}" if table.protocol else ""
    caption = html.Cell(f"{counted(len(rows), 'cell')} of {len(frame)} with a run{protocol}")
    text = html.table(map(html.Cell, named), bodies, f"{table.heading}: cells that were run", caption)
    if len(rows) > FOLDED_ROWS:
        return html.element("details", html.element("summary", counted(len(rows), "measured cell")) + text)
    return text


def _short_row(row: pd.Series, filled: list[str]) -> Markup:
    texts = printed.cells(row)
    if row["verdict"] in wording.SIGNS:
        texts["verdict"] = f"{wording.SIGNS[row['verdict']]} {row['verdict']}"
    columns = [html.Cell(texts[heading], "verdict" if heading == "verdict" else "number") for heading in filled]
    return html.row(naming.method_name(row["method"]), columns)


def heat_map(frame: pd.DataFrame, table: Table, failed: Mapping[tuple[str, ...], int]) -> Markup:
    """The state of every cell of a table: networks (and what else varies) by methods, the longer side downwards.

    A cell shows a sign, and how many of the planned seeds are finished. `failed`: cell key -> failed runs.
    """
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    names = [name for name in printed.group_columns(first) if name != "metric"]
    down: dict[str, dict[str, html.Cell]] = {}
    across = [naming.method_name(method) for method in dict.fromkeys(first["method"])]
    for group, rows in first.groupby(names, sort=False):
        states = {naming.method_name(row["method"]): _state_cell(row, failed) for _, row in rows.iterrows()}
        down[naming.group_title(group)] = states
    corner = "network"
    if len(across) > len(down):
        corner, across, down = "method", list(down), {m: {g: by.get(m) for g, by in down.items()} for m in across}
    rows = [html.row(name, [states.get(other) or _NO_CELL for other in across]) for name, states in down.items()]
    title = table.title
    return html.table(map(html.Cell, (corner, *across)), [rows], f"state of {title}", html.Cell(title), "heat")


def state(n: int, planned: int, failures: int) -> str:
    """What a cell's runs amount to."""
    if n >= planned:
        return DONE
    return PARTLY if n else FAILED if failures else MISSING


def _state_cell(row: pd.Series, failed: Mapping[tuple[str, ...], int]) -> html.Cell:
    failures = failed.get(tuple(row[["dataset", "model", "method", "setting"]]), 0)
    found = state(row["n"], row["n_planned"], failures)
    name = "not analysed" if found == MISSING and row["reason"] else found
    text = f"{SIGNS[found]} {row['n']}/{row['n_planned']} {name}"
    if failures and found != FAILED:
        text += f", {failures} failed"
    return html.Cell(text, html.kind(found))


def failed_cells(table: Table, profile: str, store: Store, failed_ids: set[str]) -> dict[tuple[str, ...], int]:
    """Cell key -> number of its seeds that a failed run keeps from finishing."""
    seeds = tuple(sorted({store.spec(run_id).seed for run_id in failed_ids}))
    found: dict[tuple[str, ...], int] = {}
    for cell in table.cells(profile, seeds) if seeds else ():
        stuck = [spec for spec in cell.specs if failed_ids & {run.id for run in spec.lineage}]
        if stuck:
            found[cell.key] = len(stuck)
    return found


def figure(path: Path) -> dict[str, str | int]:
    """A plot as data for the page; its title is what a screen reader says, and its size in pixels keeps its place while
    it loads."""
    content = path.read_bytes()  # as it is: what is no UTF-8 is for the browser to say
    text = content.decode(errors="replace")
    size = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', text)
    width, height = (round(float(points) * 96 / 72) for points in size.groups()) if size else (0, 0)
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.DOTALL)
    alt = unescape(title.group(1)).strip() if title else path.stem.replace("_", " ")
    data = base64.b64encode(content).decode("ascii")
    source = f"data:image/svg+xml;base64,{data}"
    return {"name": path.stem, "alt": alt, "data": source, "width": width, "height": height}
