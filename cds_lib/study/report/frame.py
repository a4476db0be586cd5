"""All results as a data frame: every run is read once, and tables, figures and pages are computed from the frame."""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import pandas as pd

from cds_lib.study import analyses, statistics
from cds_lib.study.errors import RunError
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import HISTORY, METRICS, Table
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY

PLACE = ["dataset", "model", "setting"]
CELL = ["dataset", "model", "method", "setting", "metric"]

# Columns of RESULTS/tables/<table>.csv. Code outside the project relies on the first sixteen.
COLUMNS = (
    *("table", "dataset", "model", "method", "setting", "metric", "paper", "mean", "std", "n", "ci_low", "ci_high"),
    *("baseline_delta", "paper_delta", "verdict", "profile", "n_planned", "best_mean", "best_std", "p_value", "runs"),
    *("reason", "n_pairs"),
)
NUMBERS = (
    *("paper", "mean", "std", "ci_low", "ci_high", "baseline_delta", "paper_delta", "best_mean", "best_std", "p_value"),
)
_OF_SIZES = ("test_ap_s_last", "test_ap_m_last", "test_ap_l_last")  # a data set may have no objects of a size
_FILES = {METRICS: "metrics.json", HISTORY: "history.csv"}


def results(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """Return one row per planned run of each cell, in print order.

    table, profile; dataset, model, method, setting, metric: the cell; seed; run: its id, "" if its settings are not
    chosen yet; value: the cell's metric; best: the same at the best tested epoch (both are missing if the run is not
    finished or not analysed); paper: the published number; against, against_setting: method and setting of the cell it
    is compared with; finished; reason: why a finished run has no value. Further columns hold all that was measured of
    the run, under its own name: the last row of history.csv, its analyses, metrics.json.

    RunError if a finished run is damaged or lacks the metric.
    """

    @cache  # a run fills several cells
    def measured(run_id: str) -> dict[str, float]:
        last = ({}, *store.epochs(run_id))[-1]
        found = {name: value for name, value in last.items() if name != "epoch"}
        for name in analyses.ANALYSES:
            found |= (analyses.read(store, run_id, name) or {"values": {}})["values"]
        return found | store.metrics(run_id)

    rows = []
    for cell in table.cells(profile, seeds):
        _, _, against, against_setting = cell.reference or ("", "", "", "")
        reason = analyses.reason(cell, store) if cell.source in analyses.ANALYSES else ""
        for seed in cell.seeds:
            run = cell.run.with_seed(seed).id if cell.run else ""
            finished = run != "" and store.is_done(run)
            found = measured(run) if finished else {}
            if finished and not reason and cell.metric not in (*found, *_OF_SIZES):
                folder, file = store.run_dir(run), _FILES.get(cell.source, f"analysis/{cell.source}.json")
                raise RunError(f"{folder / file} has no {cell.metric!r}: delete the folder {folder} and run again.")
            rows.append(
                {
                    **found,
                    "table": table.name,
                    "profile": profile,
                    **{name: getattr(cell, name) for name in CELL},
                    "seed": seed,
                    "run": run,
                    "value": found.get(cell.metric),
                    "best": found.get(cell.metric.removesuffix("_last") + "_best"),
                    "paper": cell.paper,
                    "against": against,
                    "against_setting": against_setting,
                    "finished": finished,
                    "reason": reason,
                }
            )
    return pd.DataFrame(rows).astype({"paper": "float64", "value": "float64", "best": "float64"})


def every_result(tables: Iterable[Table], profile: str, seeds: Seeds, store: Store) -> dict[str, pd.DataFrame]:
    """Return the `results` of each table by its name; the summary has no results of its own."""
    return {table.name: results(table, profile, seeds, store) for table in tables if table.name != SUMMARY}


def histories(frame: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Return one row per epoch of every finished run of `results`: dataset, model, method, setting, seed, run, and the
    columns of history.csv."""
    columns = ["dataset", "model", "method", "setting", "seed", "run"]
    runs = frame.loc[frame["finished"], columns].drop_duplicates().to_dict("records")
    found = pd.DataFrame([epoch | run for run in runs for epoch in store.epochs(run["run"])])
    return found.astype({"epoch": int}) if len(found) else pd.DataFrame(columns=[*columns, "epoch"])


def by_seed(rows: pd.DataFrame, column: str = "value") -> dict[int, float]:
    """Return seed -> value, for the rows of one cell that have a value."""
    return rows.dropna(subset=[column]).set_index("seed")[column].to_dict()


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell of `results`, with COLUMNS; a cell without a finished run is a row with n = 0.

    mean, std: over the finished seeds; best_mean, best_std: at the best tested epoch; baseline_delta, ci_low, ci_high,
    p_value, n_pairs: difference to the cell it is compared with, paired by seed, its 95 % interval, sign-flip p value
    and number of pairs; paper_delta: the published difference; n_planned: number of planned seeds; runs: ids of the
    runs behind the row. Values are in the metric's unit.
    """
    rows, cells = [], dict(list(frame.groupby(CELL, sort=False)))
    for cell in cells.values():
        first, ours = cell.iloc[0], by_seed(cell)
        mean, best = statistics.summarise([*ours.values()]), statistics.summarise(cell["best"].dropna().tolist())
        row = {
            **first[["table", "profile", *CELL, "paper", "reason"]],
            **{"mean": mean.mean, "std": mean.std, "n": mean.n, "n_planned": len(cell)},
            **{"best_mean": best.mean, "best_std": best.std, "n_pairs": 0},
            "runs": " ".join(cell.loc[cell["value"].notna(), "run"]),
            "verdict": "" if ours else statistics.NOT_RUN,
        }
        if first["against"]:
            reference = cells[tuple(first[["dataset", "model", "against", "against_setting", "metric"]])]
            row |= compared(ours, by_seed(reference), _published(cell, reference), first["profile"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, "float64"))


def compared(
    ours: dict[int, float], reference: dict[int, float], published: float | None, profile: str
) -> dict[str, object]:
    """Return the columns of a difference, paired by seed, with the verdict on the published difference."""
    found = statistics.paired_difference(ours, reference)
    columns = dict(zip(("baseline_delta", "ci_low", "ci_high", "p_value", "n_pairs"), found, strict=True))
    return {**columns, "paper_delta": published, "verdict": statistics.verdict(found, published, profile)}


def _published(ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """Return the difference of the published numbers of two cells, or None unless both are known."""
    difference = ours["paper"].iloc[0] - theirs["paper"].iloc[0]
    return None if pd.isna(difference) else round(difference, 6)


def _places(frame: pd.DataFrame, reference: str, metric: str | None) -> Iterator[tuple[pd.DataFrame, float | None]]:
    """Yield the rows of each cell that has `reference` in its place, with the columns of `paired`, and the difference
    of the published numbers. The reference is that of the same setting, or of another setting if it exists only there
    (distillation against a training from scratch)."""
    column, place = metric or "value", ["dataset", "model", "metric"]
    frame = frame if column in frame else frame.assign(**{column: np.nan})  # nothing has run
    references = frame[frame["method"] == reference]
    for _, ours in frame[frame["method"] != reference].groupby(CELL, sort=False):
        theirs = references[(references[place] == ours[place].iloc[0]).all(axis=1)]
        in_setting = theirs["setting"] == ours["setting"].iloc[0]
        theirs = theirs[in_setting] if in_setting.any() else theirs
        if theirs["setting"].nunique() == 1:  # of several other settings, none is the reference
            published = None if metric else _published(ours, theirs)
            theirs = theirs.dropna(subset=[column]).set_index("seed")
            difference = ours[column] - ours["seed"].map(theirs[column].to_dict())
            to = ours["seed"].map(theirs["run"].to_dict())
            yield ours.assign(difference=difference, published=published, to=to), published


def paired(frame: pd.DataFrame, reference: str, metric: str | None = None) -> pd.DataFrame:
    """Return the rows of `results` that have a run of `reference` with the same seed in the same place, with three more
    columns: difference: to that run; published: difference of the published numbers; to: the id of that run.

    metric: column of a number to compare instead of the cell's; such a number has no published difference.
    """
    parts = [rows for rows, _ in _places(frame, reference, metric)]
    found = pd.concat(parts or [frame.iloc[:0].assign(difference=None, published=None, to="")], ignore_index=True)
    return found.astype({"difference": "float64", "published": "float64"}).dropna(subset=["difference"])


def compare(frame: pd.DataFrame, method: str, reference: str, metric: str | None = None) -> pd.DataFrame:
    """Return `method` minus `reference`, paired by seed, in every place of `results` that has both.

    metric: column of a number to compare ("train_cross_entropy"); None: the cell's own value. The setting is ignored if
    the reference exists only in another setting (distillation against a training from scratch).

    Returns:
        One row per place and metric: dataset, model, setting, metric; difference, low, high (95 % t interval), p
        (sign-flip test), n (pairs); published (the difference of the published numbers); verdict; size (of
        `statistics`); runs (ids, those of the method first).
    """
    rows = []
    for ours, published in _places(frame[frame["method"].isin([method, reference])], reference, metric):
        pairs = ours.dropna(subset=["difference"])
        found = statistics.mean_difference(pairs["difference"].tolist())
        rows.append(
            {
                **ours.iloc[0][[*PLACE, "metric"]],
                **({"metric": metric} if metric else {}),
                **found._asdict(),
                "published": published,
                "verdict": statistics.verdict(found, published, ours["profile"].iloc[0]),
                "size": statistics.size(found, published),
                "runs": " ".join([*pairs["run"], *pairs["to"]]),
            }
        )
    columns = [*PLACE, "metric", "difference", "low", "high", "p", "n", "published", "verdict", "size", "runs"]
    numeric = dict.fromkeys(["difference", "low", "high", "p", "published"], "float64")
    return pd.DataFrame(rows, columns=columns).astype(numeric)
