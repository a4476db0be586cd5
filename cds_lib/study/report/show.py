"""A data frame as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from cds_lib.study import formats
from cds_lib.study.naming import label, named

if TYPE_CHECKING:
    from IPython.display import HTML

# Columns of `compare`, whose numbers have a sign; a p value has three decimals. Other floating-point numbers have two.
_FORMATS = dict.fromkeys(("difference", "low", "high", "published"), "{:+.2f}") | {"p": "{:.3f}"}
# The alignment is said here, since JupyterLab has labels at the right.
_CELL = Markup('<{tag} style="text-align:{side}">{text}</{end}>')
_PAGE = Markup(
    '<figure class="table"><div class="scroll" role="region" aria-label="{caption}" tabindex="0" '
    'style="overflow-x:auto"><table>\n<caption style="text-align:left"><span>{caption}</span></caption>\n'
    "<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div></figure>"
)


def show(frame: pd.DataFrame, caption: str, form: Mapping[Any, str] | str = "{:.2f}") -> HTML:
    """The frame as a table with a caption: names for people, labels to the left, numbers to the right.

    The first column heads the rows, or the index where it says more than a count. form: how floating-point numbers are
    written, for all or by column.
    """
    from IPython.display import HTML

    usual, by_column = (form, {}) if isinstance(form, str) else ("{:.2f}", form)
    counts = frame.index.nlevels == 1 and frame.index.name is None and pd.api.types.is_integer_dtype(frame.index)
    labels = 0 if counts else frame.index.nlevels
    frame = frame.reset_index(drop=True) if counts else frame
    if labels == 1 and frame.index.name is None:
        frame = frame.rename(index=lambda name: label(name) if isinstance(name, str) else name)
    flat = named(frame.reset_index().rename(columns={"index": ""}) if labels else frame)
    sides = ["right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in flat.dtypes]
    forms = [by_column.get(column, _FORMATS.get(column, usual)) for column in flat]
    tags = ['th scope="row"'] * max(labels, 1) + ["td"] * len(flat.columns)
    rows = [
        Markup("").join(_cell(tag, *cell) for tag, *cell in zip(tags, sides, line, forms, strict=False))
        for line in flat.astype(object).itertuples(index=False, name=None)
    ]
    head = [_cell('th scope="col"', side, _heading(column)) for side, column in zip(sides, flat.columns, strict=True)]
    rows = Markup("\n").join(Markup("<tr>{}</tr>").format(row) for row in rows)
    return HTML(_PAGE.format(caption=caption, head=Markup("").join(head), rows=rows))


def _heading(column: Any) -> str:
    parts = column if isinstance(column, tuple) else [column]
    return ", ".join(label(str(part)) for part in parts if part != "")


def _cell(tag: str, side: str, value: Any, form: str = "") -> Markup:
    text = formats.text(value, form)
    # A corner that says nothing is no heading.
    tag = tag if text else "td"
    return _CELL.format(tag=Markup(tag), side=side, text=text, end=tag.split()[0])
