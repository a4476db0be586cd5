"""All results as a data frame: every run is read once, and tables, figures and pages are computed from the frame."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from cds_lib.study import analyses, statistics
from cds_lib.study.errors import RunError
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import HISTORY, METRICS, Cell, Table
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY

PLACE = ["dataset", "model", "setting"]
CELL = ["dataset", "model", "method", "setting", "metric"]

# Columns of RESULTS/tables/<table>.csv; the first sixteen are relied on from outside.
COLUMNS = (
    *("table", "dataset", "model", "method", "setting", "metric", "paper", "mean", "std", "n", "ci_low", "ci_high"),
    *("baseline_delta", "paper_delta", "verdict", "profile", "n_planned", "best_mean", "best_std", "p_value", "runs"),
    *("reason", "n_pairs"),
)
NUMBERS = ("paper", "mean", "std", "ci_low", "ci_high", "baseline_delta", "paper_delta")
NUMBERS += ("best_mean", "best_std", "p_value")
_OF_SIZES = ("test_ap_s_last", "test_ap_m_last", "test_ap_l_last")  # a data set may have no objects of a size


def numbers(store: Store, run_id: str) -> dict[str, float]:
    """All that was measured of a finished run, by name: the last row of history.csv, its analyses, metrics.json.
    RunError if one of these files is damaged."""
    found = {name: value for rows in store.epochs(run_id)[-1:] for name, value in rows.items() if name != "epoch"}
    for name in analyses.ANALYSES:
        found |= (analyses.read(store, run_id, name) or {"values": {}})["values"]
    return found | store.metrics(run_id)


def results(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row a planned run of each cell, in print order.

    table, profile; dataset, model, method, setting, metric: the cell; seed, run (its id, "" where its settings are not
    chosen yet); value: the cell's metric, best: the same at the best tested epoch, both missing where the run is not
    finished (or not analysed); paper: the published number; against, against_setting: the method and setting of the
    cell it is compared with; finished; reason: why a finished run has no value. Further columns: all that was measured
    of the run, by its own name.

    RunError if a finished run is damaged or lacks the metric.
    """

    @cache  # a run fills several cells
    def measured(run_id: str) -> dict[str, float] | None:
        return numbers(store, run_id) if run_id and store.is_done(run_id) else None

    rows = []
    for cell in table.cells(profile, seeds):
        _, _, against, against_setting = cell.reference or ("", "", "", "")
        reason = analyses.reason(cell, store) if cell.source in analyses.ANALYSES else ""
        for seed in cell.seeds:
            run = cell.run.with_seed(seed).id if cell.run else ""
            found = measured(run)
            rows.append(
                {
                    **(found or {}),
                    "table": table.name,
                    "profile": profile,
                    **{name: getattr(cell, name) for name in CELL},
                    "seed": seed,
                    "run": run,
                    "value": None if found is None else _value(cell, store.run_dir(run), found, reason),
                    "best": None if found is None else _best(cell, found),
                    "paper": cell.paper,
                    "against": against,
                    "against_setting": against_setting,
                    "finished": found is not None,
                    "reason": reason,
                }
            )
    return pd.DataFrame(rows).astype({"paper": "float64", "value": "float64", "best": "float64"})


def every_result(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store) -> dict[str, pd.DataFrame]:
    """The `results` of each table by its name; the summary has none of its own."""
    return {table.name: results(table, profile, seeds, store) for table in tables if table.name != SUMMARY}


def histories(frame: pd.DataFrame, store: Store) -> pd.DataFrame:
    """One row an epoch of every finished run of `results`: dataset, model, method, setting, seed, run, and what
    history.csv has of that epoch."""
    columns = ["dataset", "model", "method", "setting", "seed", "run"]
    runs = frame.loc[frame["finished"], columns].drop_duplicates().to_dict("records")
    found = pd.DataFrame([epoch | run for run in runs for epoch in store.epochs(run["run"])])
    return found.astype({"epoch": int}) if len(found) else pd.DataFrame(columns=[*columns, "epoch"])


def _value(cell: Cell, folder: Path, found: dict[str, float], reason: str) -> float | None:
    """The cell's metric among the `numbers` of the finished run in `folder`. None if there is a `reason` that it was
    not measured, or if the data set has no objects of the size; RunError if it is missing otherwise."""
    if cell.metric in found or cell.metric in _OF_SIZES or reason:
        return found.get(cell.metric)
    file = {METRICS: "metrics.json", HISTORY: "history.csv"}.get(cell.source, f"analysis/{cell.source}.json")
    raise RunError(f"{folder / file} has no {cell.metric!r}: delete the folder {folder} and run again.")


def _best(cell: Cell, found: dict[str, float]) -> float | None:
    return found.get(cell.metric.replace("_last", "_best")) if cell.metric.endswith("_last") else None


def by_seed(rows: pd.DataFrame, column: str = "value") -> dict[int, float]:
    """Seed -> value, of the rows of one cell that have a value; {} if there is no such column."""
    values = rows.get(column, [])
    return {seed: value for seed, value in zip(rows["seed"], values, strict=False) if not pd.isna(value)}


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a cell of `results`, with COLUMNS; a cell without a finished run is a row with n = 0.

    mean, std: over the seeds that have finished; best_mean, best_std: at the best tested epoch. baseline_delta, ci_low,
    ci_high, p_value, n_pairs: difference to the cell it is compared with, paired by seed, its 95 % interval, sign-flip
    test and number of pairs; paper_delta: the published difference. n_planned: seeds asked for. runs: ids of the runs
    behind it. All numbers in the metric's unit.
    """
    cells = dict(list(frame.groupby(CELL, sort=False)))
    rows = [_row(rows, cells) for rows in cells.values()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, "float64"))


def _row(rows: pd.DataFrame, cells: dict[tuple, pd.DataFrame]) -> dict[str, object]:
    first, ours = rows.iloc[0], by_seed(rows)
    mean, best = statistics.summarise([*ours.values()]), statistics.summarise([*by_seed(rows, "best").values()])
    row = {
        **first[["table", "profile", *CELL, "paper", "reason"]],
        **{"mean": mean.mean, "std": mean.std, "n": mean.n, "n_planned": len(rows)},
        **{"best_mean": best.mean, "best_std": best.std, "n_pairs": 0},
        "runs": " ".join(rows.loc[rows["value"].notna(), "run"]),
        "verdict": "" if ours else statistics.NOT_RUN,
    }
    if not first["against"]:
        return row
    reference = cells[first["dataset"], first["model"], first["against"], first["against_setting"], first["metric"]]
    return row | compared(ours, by_seed(reference), _published(rows, reference), first["profile"])


def compared(
    ours: dict[int, float], reference: dict[int, float], published: float | None, profile: str
) -> dict[str, object]:
    """The columns about a difference, paired by seed, and the verdict on the published one."""
    found = statistics.paired_difference(ours, reference)
    columns = dict(zip(("baseline_delta", "ci_low", "ci_high", "p_value", "n_pairs"), found, strict=True))
    return {**columns, "paper_delta": published, "verdict": statistics.verdict(found, published, profile)}


def _places(frame: pd.DataFrame, reference: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The rows of each cell and those of `reference` that they are compared with: of the same setting or, where the
    reference has only another one (distillation against a training from scratch), of the other."""
    for _, ours in frame[frame["method"] != reference].groupby(CELL, sort=False):
        place = {name: ours[name].iloc[0] for name in ("dataset", "model", "metric")} | {"method": reference}
        theirs = np.logical_and.reduce([frame[name] == value for name, value in place.items()])
        in_setting = theirs & (frame["setting"] == ours["setting"].iloc[0])
        if theirs.any():
            yield ours, frame[in_setting if in_setting.any() else theirs]


def _published(ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """The difference of the published numbers of two cells, None unless both are known."""
    difference = ours["paper"].iloc[0] - theirs["paper"].iloc[0]
    return None if pd.isna(difference) else round(difference, 6)


def paired(frame: pd.DataFrame, reference: str, metric: str | None = None) -> pd.DataFrame:
    """The rows of `results` that have a run of `reference` with the same seed in the same place, and two more columns:
    difference, to that run; published, the difference of the published numbers.

    metric: another number than the cell's, by its column; nothing is published of it.
    """
    column, parts = metric or "value", [frame.iloc[:0].assign(difference=None, published=None)]
    for ours, theirs in _places(frame, reference):
        difference = ours[column] - ours["seed"].map(by_seed(theirs, column))
        parts.append(ours.assign(difference=difference, published=None if metric else _published(ours, theirs)))
    found = pd.concat(parts[1:] or parts, ignore_index=True)
    return found.astype({"difference": "float64", "published": "float64"}).dropna(subset=["difference"])


def compare(frame: pd.DataFrame, method: str, reference: str, metric: str | None = None) -> pd.DataFrame:
    """How far `method` is from `reference` in every place of `results` that has both: "A minus B", paired by seed.

    metric: another number than the cell's, by its column ("train_cross_entropy"); None: the cell's own value. Settings
    are ignored where the reference has only another one (distillation against a training from scratch).

    Returns:
        One row a place and metric: dataset, model, setting, metric; difference, low, high (95 % t interval), p
        (sign-flip test), n (pairs); published (the difference of the published numbers); verdict; size (of
        `statistics`); runs (ids, those of the method first).
    """
    column, rows = metric or "value", []
    for ours, theirs in _places(frame[frame["method"].isin([method, reference])], reference):
        values = by_seed(ours, column), by_seed(theirs, column)
        found = statistics.paired_difference(*values)
        published = None if metric else _published(ours, theirs)
        both = pd.concat([ours, theirs])
        rows.append(
            {
                **ours.iloc[0][[*PLACE, "metric"]],
                **({"metric": metric} if metric else {}),
                **found._asdict(),
                "published": published,
                "verdict": statistics.verdict(found, published, ours["profile"].iloc[0]),
                "size": statistics.size(found, published),
                "runs": " ".join(both.loc[both["seed"].isin(values[0].keys() & values[1].keys()), "run"]),
            }
        )
    columns = [*PLACE, "metric", "difference", "low", "high", "p", "n", "published", "verdict", "size", "runs"]
    numeric = dict.fromkeys(["difference", "low", "high", "p", "published"], "float64")
    return pd.DataFrame(rows, columns=columns).astype(numeric)
