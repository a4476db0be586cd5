"""A data frame as a notebook shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup

from cds_lib.study.report import formats
from cds_lib.study.report.naming import label, name_of, named

# How numbers of `compare` are written, by column.
_FORMATS = dict.fromkeys(("difference", "low", "high", "published"), "{:+.2f}") | {"p": "{:.3f}"}
_OF_OTHERS = ("p", "published")  # columns of numbers that come from no single run
# Alignment is inline, since JupyterLab aligns labels right. The title lists the runs; pages.py makes a link of it.
_CELL = Markup('<{tag} style="text-align:{side}"{title}>{text}</{end}>')
_TITLE = Markup(' title="runs {}"')
_PAGE = Markup(
    '<figure class="table"><div class="scroll" role="region" aria-label="{caption}" tabindex="0" '
    'style="overflow-x:auto"><table>\n<caption style="text-align:left"><span>{caption}</span></caption>\n'
    "<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div></figure>"
)


def show(
    frame: pd.DataFrame, caption: str, form: Mapping[Any, str] | str = "{:.2f}", runs: pd.DataFrame | None = None
) -> HTML:
    """Return the frame as a table with a caption: display names, labels to the left, numbers to the right.

    The headings of rows are the index, or the first column if the index only counts. form: the format of floating-point
    numbers, for all columns or by column.

    Numbers link to their runs. A column `runs` holds the run ids of its row and is not shown. If `runs`, a frame of
    `results`, is given, it is searched instead for the rows that match the row and column of a number.
    """
    usual, by_column = (form, {}) if isinstance(form, str) else ("{:.2f}", form)
    counts = frame.index.nlevels == 1 and frame.index.name is None and pd.api.types.is_integer_dtype(frame.index)
    labels = 0 if counts else frame.index.nlevels
    frame = frame.reset_index(drop=True) if counts else frame
    if labels == 1 and frame.index.name is None:
        frame = frame.rename(index=lambda name: label(name) if isinstance(name, str) else name)
    own = next((list(frame[name]) for name in ("runs", "run") if name in frame), None)
    frame = frame.drop(columns="runs", errors="ignore")
    flat = named(frame.reset_index().rename(columns={"index": ""}) if labels else frame)
    sides = ["right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in flat.dtypes]
    forms = [by_column.get(column, _FORMATS.get(column, usual)) for column in flat]
    tags = ['th scope="row"'] * max(labels, 1) + ["td"] * len(flat.columns)
    behind = [[ids] * len(flat.columns) for ids in own or [""] * len(flat)]
    if runs is not None:
        behind = _behind(flat, sides[labels:], frame.columns.names, runs)
    rows = [
        Markup("").join(_cell(tag, *cell) for tag, *cell in zip(tags, sides, flat, line, forms, ids, strict=False))
        for line, ids in zip(flat.astype(object).itertuples(index=False, name=None), behind, strict=True)
    ]
    head = [_cell('th scope="col"', side, "", _heading(column)) for side, column in zip(sides, flat, strict=True)]
    rows = Markup("\n").join(Markup("<tr>{}</tr>").format(row) for row in rows)
    return HTML(_PAGE.format(caption=caption, head=Markup("").join(head), rows=rows))


def _behind(flat: pd.DataFrame, sides: Sequence[str], levels: Sequence[Any], runs: pd.DataFrame) -> list[list[str]]:
    """Return the run ids behind each cell. sides: of the columns after the index; levels: what their headings name."""
    runs = named(runs[runs["value"].notna()]).astype(str)
    keys = [column if isinstance(column, tuple) else (column,) for column in flat]
    texts = [True] * (len(keys) - len(sides)) + [side == "left" for side in sides]

    def ids(names: dict[Any, Any]) -> str:
        shared = {name: name_of(str(value)) for name, value in names.items() if name in runs}
        rows = runs[(runs[[*shared]] == pd.Series(shared)).all(axis=1)] if shared else runs.iloc[:0]
        return " ".join(rows["run"].unique())

    found = []
    for line in flat.astype(object).itertuples(index=False, name=None):
        row = {key[0]: value for key, value, text in zip(keys, line, texts, strict=True) if text}
        found.append([ids(row | dict(zip(levels, key, strict=True))) for key in keys])
    return found


def _heading(column: Any) -> str:
    parts = column if isinstance(column, tuple) else [column]
    return ", ".join(label(str(part)) for part in parts if part != "")


def _cell(tag: str, side: str, column: Any, value: Any, form: str = "", ids: str = "") -> Markup:
    text = formats.text(value, form)
    tag = tag if text else "td"  # an empty corner is no heading
    of_runs = ids and isinstance(value, float) and not pd.isna(value) and column not in _OF_OTHERS
    title = _TITLE.format(ids) if of_runs else ""
    return _CELL.format(tag=Markup(tag), side=side, title=title, text=text, end=tag.split()[0])
