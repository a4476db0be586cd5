"""From finished runs to tables: a tidy frame, its files, and what it says in words. Reads the store, never trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cds_lib.files import refuse_no_file
from cds_lib.study import analyses
from cds_lib.study.errors import RunError
from cds_lib.study.files import write_text
from cds_lib.study.protocols import Seeds
from cds_lib.study.report import frame as frames
from cds_lib.study.report import printed
from cds_lib.study.report.frame import COLUMNS, NUMBERS
from cds_lib.study.store import Store
from cds_lib.study.table import Cell, Table


def tidy(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """`frame.tidy` of a table under a profile."""
    return frames.tidy(frames.results(table, profile, seeds, store))


def by_seed(cell: Cell, metric: str, store: Store) -> dict[int, float]:
    """Seed -> a number by its name (`frame.numbers`), of the cell's finished runs that have it; RunError if one should
    have it, since it is the cell's own."""
    finished = {spec.seed: frames.numbers(store, spec.id) for spec in cell.specs if store.is_done(spec.id)}
    if metric == cell.metric:
        reason = analyses.reason(cell, store) if cell.source in analyses.ANALYSES else ""
        folders = {spec.seed: store.run_dir(spec.id) for spec in cell.specs}
        found = {seed: frames.value(cell, folders[seed], numbers, reason) for seed, numbers in finished.items()}
    else:
        found = {seed: numbers.get(metric) for seed, numbers in finished.items()}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def write_table(frame: pd.DataFrame, table: Table, results: Path) -> dict[str, Path]:
    """Write the files of a table of the study."""
    return write_files(
        table.name, frame, printed.markdown_table(frame, table), printed.latex_table(frame, table), results
    )


def write_files(name: str, frame: pd.DataFrame, markdown: str, latex: str, results: Path) -> dict[str, Path]:
    """Write RESULTS/tables/<name>.csv (numbers numeric), .md and .tex, each complete or not at all."""
    texts = {"csv": frame.to_csv(index=False, lineterminator="\n"), "md": markdown, "tex": latex}
    paths = {suffix: Path(results) / "tables" / f"{name}.{suffix}" for suffix in texts}
    for suffix, text in texts.items():
        write_text(paths[suffix], text)
    return paths


def read_table(table: str, results: Path, more: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The frame that `write_table` wrote, with the same column types; RunError if the file is damaged.

    `more`: columns behind the usual ones, with their types.
    """
    numbers = dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(("n", "n_planned", "n_pairs"), "int64")
    types = dict.fromkeys(COLUMNS, "str") | numbers | dict(more or {})
    texts = [name for name, kind in types.items() if kind == "str"]
    path = Path(results) / "tables" / f"{table}.csv"
    try:
        refuse_no_file(path)
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""], encoding="utf-8")
        if list(frame.columns) != list(types) or not len(frame):
            raise ValueError("it has other columns, or no rows")
    except FileNotFoundError:
        raise RunError(f"{path} is not there: write the report.") from None
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())
        raise RunError(f"{path} cannot be read ({first}): delete it and write the report again.") from error
    return frame.fillna(dict.fromkeys(texts, ""))


def state(frame: pd.DataFrame) -> list[str]:
    """How much has run and, in the smoke profile, that it means nothing."""
    done, planned = printed.finished(frame)
    sentences = [f"{done} of the {planned} runs that fill a cell are finished."]
    if frame["profile"].iloc[0] == "smoke":
        sentences.append("Smoke profile: the numbers show that the code runs and nothing else.")
    return sentences
