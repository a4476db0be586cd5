"""Compare the results of another folder with ours: is each cell within the prediction interval of a repetition?"""

from collections.abc import Iterable

import pandas as pd

from cds_lib.errors import UsageError
from cds_lib.study import statistics
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table
from cds_lib.study.report.frame import CELL, results, tidy
from cds_lib.study.store import Store


def compared(tables: Iterable[Table], profile: str, seeds: Seeds, ours: Store, theirs: Store) -> pd.DataFrame:
    """Return one row per cell for which `theirs` has a finished run.

    Returns:
        table, dataset, model, method, setting, metric; mean, n: ours; theirs, n_theirs: their mean and n; low, high:
        95 % prediction interval of the mean of n_theirs new seeds, from ours; inside: "yes", "no", or "" if we have
        fewer than two seeds; images: "same" if all their runs used images that ours used, "other" if not, "" without
        ours; uncommitted: ids of their runs whose code has no commit or release, or has uncommitted changes.

    Raises:
        UsageError: none of their runs is in these tables. RunError: a run is damaged, incomplete or contradicts itself.
    """
    parts = []
    for table in tables:
        mine, other = (tidy(results(table, profile, *of)) for of in ((None, ours), (seeds, theirs)))
        parts.append(other[other["n"] > 0].merge(mine, on=["table", *CELL], suffixes=("_theirs", "")))
    both, rows = pd.concat(parts), []
    if both.empty:
        raise UsageError(f"{theirs.root} has no finished run of these tables under the profile {profile}.")
    for row in both.to_dict("records"):
        summary = statistics.Summary(row["mean"], row["std"], row["n"])
        low, high = statistics.prediction_interval(summary, row["n_theirs"])
        known, used = _images(ours, row["runs"]), _images(theirs, row["runs_theirs"])
        rows.append(
            {
                **{name: row[name] for name in ("table", *CELL, "mean", "n")},
                **{"theirs": row["mean_theirs"], "n_theirs": row["n_theirs"], "low": low, "high": high},
                "inside": "" if low is None else "yes" if low <= row["mean_theirs"] <= high else "no",
                "images": "" if not known else "same" if used <= known else "other",
                "uncommitted": [run for run in row["runs_theirs"].split() if not _committed(theirs, run)],
            }
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(("mean", "theirs", "low", "high"), "float64"))


def _images(store: Store, runs: str) -> set[str]:
    """Return the checksums of the images that these runs were trained on."""
    return {(store.status(run).get("data") or {}).get("sha256", "") for run in runs.split()}


def _committed(store: Store, run: str) -> bool:
    """Return whether the run was trained with committed code; RunError if its history or code version is missing."""
    if not store.epochs(run):
        raise store.damaged(run, "history.csv", "it is not there")
    if not (code := store.status(run).get("code")):
        raise store.damaged(run, "status.json", "it does not say which code the run was trained with")
    return code != "unknown" and not code.endswith("+dirty")
