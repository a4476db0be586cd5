"""The published numbers, read from `paper_tables.yaml`, under this project's names.

The authors' poster names a row `Ours` and a column `RNT18`; here they are `cds` and `resnet18`. A number that was
never found is None.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cds_lib.errors import UsageError
from cds_lib.study.plan.catalogue import DATASETS, DEEP_SUPERVISION, DISTILLATION, METHODS, NETWORKS

if TYPE_CHECKING:
    import pandas as pd

PAPER_TABLES = Path(__file__).with_name("paper_tables.yaml")

# Heading on the poster -> name in the catalogue; for most methods the heading is the title in the catalogue.
HEADINGS = {entry.poster: name for name, entry in (DATASETS | NETWORKS).items() if entry.poster}
HEADINGS |= {METHODS[name].title: name for name in (*DEEP_SUPERVISION, *DISTILLATION)}
HEADINGS |= {"Base": "baseline", "Baseline": "baseline", "Ours": "cds"}
# Rows such as `top1_RNT18` and `faster_rcnn_Ours` carry a measure or a detector in front of the name to translate.
PREFIXES = ("top1_", "top5_", "faster_rcnn_", "retinanet_")
# In the distillation table `Ours` is CDS with a teacher. In the comparison of contrastive methods the numbered rows
# differ in batch size and epochs, so they keep the poster's names.
EXCEPTIONS = {"table_7": {"Ours": "cds_kd"}, "contrastive_comparison": {"Baseline": "Baseline", "Ours": "Ours"}}


@cache
def _tables() -> dict[str, dict]:
    content = yaml.safe_load(PAPER_TABLES.read_text(encoding="utf-8"))
    return {table["id"]: table for table in content["tables"]}


def _table(table_id: str) -> dict:
    if table_id not in _tables():
        raise UsageError(f"There is no published table {table_id!r}: choose one of {', '.join(_tables())}.")
    return _tables()[table_id]


def _project_name(table_id: str, poster_name: str) -> str:
    """Return the project's name for a row or column heading of the poster; a heading without one stays unchanged."""
    names = HEADINGS | EXCEPTIONS.get(table_id, {})
    prefix = next((p for p in PREFIXES if poster_name.startswith(p)), "")
    rest = poster_name[len(prefix) :]
    return prefix + names.get(rest, rest)


def frame(table_id: str) -> pd.DataFrame:
    """Return a published table as printed, with the project's names; a number that was never found is missing."""
    import pandas as pd  # slow

    table = _table(table_id)
    rows, columns = ([_project_name(table_id, name) for name in table[side]] for side in ("rows", "columns"))
    return pd.DataFrame([table["values"][row] for row in table["rows"]], index=rows, columns=columns)


@cache
def _numbers(table_id: str) -> dict[tuple[str, str], float]:
    cells = frame(table_id).select_dtypes("number").stack()  # leaves out columns of yes and no
    return cells.dropna().astype(float).to_dict()


def published(table_id: str, row: str, column: str) -> float | None:
    """Return the published number, or None if the paper's table has no such cell.

    `table_id` is an id of `paper_tables.yaml` (`table_1`); `row` and `column` use the project's names (`cds`,
    `resnet18`; with the poster's prefix where it has one: `top1_resnet18`, `faster_rcnn_cds`).
    Raises UsageError for an unknown table, so that a misspelt id cannot pass for an unpublished number.
    """
    return _numbers(table_id).get((row, column))


def is_approximate(table_id: str) -> bool:
    """Return whether the numbers of a published table were measured from a plot."""
    return _table(table_id)["precision"] != "exact"


def source(table_id: str) -> str:
    """Return where the numbers of a published table were read and how precisely, in one sentence."""
    table = _table(table_id)
    how = "printed digits" if table["precision"] == "exact" else "measured from the plot"
    within = f", within {table['uncertainty']} points" if "uncertainty" in table else ""
    return f"{table['source']} ({how}{within})"


def poster_claim(table_id: str) -> tuple[str, float]:
    """Return the poster's statement about a whole table and its points: `average improvement over Base`, 3.44."""
    claim = _table(table_id)["poster_claim"]
    return claim["text"], float(claim["value"])
