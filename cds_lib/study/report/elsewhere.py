"""Compare the results of another folder with ours: is each cell within the prediction interval of a repetition?"""

from collections.abc import Iterable

import pandas as pd

from cds_lib.errors import UsageError
from cds_lib.study import statistics
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table
from cds_lib.study.report.frame import CELL, results
from cds_lib.study.store import Store


def compared(tables: Iterable[Table], profile: str, seeds: Seeds, ours: Store, theirs: Store) -> pd.DataFrame:
    """One row a cell that `theirs` has a finished run of.

    Returns:
        table, dataset, model, method, setting, metric; mean, n: ours; theirs, n_theirs; low, high: the 95 % prediction
        interval of the mean of so many new seeds, from ours; inside: "yes", "no", or "" where we have fewer than two
        seeds; images: "same" if all of theirs were trained on the images that ours were, "other", or "" without ours;
        uncommitted: ids of theirs whose record names no commit or release, or one with changes.

    Raises:
        UsageError: none of their runs is of these tables. RunError: a run is damaged, not whole or contradicts itself.
    """
    rows = []
    for table in tables:
        mine = dict(list(results(table, profile, None, ours).groupby(CELL, sort=False)))
        for key, their in results(table, profile, seeds, theirs).groupby(CELL, sort=False):
            their, our = their.dropna(subset=["value"]), mine[key].dropna(subset=["value"])
            if their.empty:
                continue
            summary = statistics.summarise(list(our["value"]))
            low, high = statistics.prediction_interval(summary, len(their))
            mean = their["value"].mean()
            inside = "" if low is None else "yes" if low <= mean <= high else "no"
            row = {"table": table.name, **dict(zip(CELL, key, strict=True)), "mean": summary.mean, "n": summary.n}
            row |= {"theirs": mean, "n_theirs": len(their), "low": low, "high": high, "inside": inside}
            uncommitted = [run for run in their["run"] if not _committed(theirs, run)]
            rows.append({**row, "images": _images(our, their, ours, theirs), "uncommitted": uncommitted})
    if not rows:
        raise UsageError(f"{theirs.root} has no finished run of these tables under the profile {profile}.")
    return pd.DataFrame(rows).astype(dict.fromkeys(("mean", "theirs", "low", "high"), "float64"))


def _images(our: pd.DataFrame, their: pd.DataFrame, ours: Store, theirs: Store) -> str:
    known, used = (
        {(store.status(run).get("data") or {}).get("sha256", "") for run in rows["run"]}
        for rows, store in ((our, ours), (their, theirs))
    )
    return "" if not known else "same" if used <= known else "other"


def _committed(store: Store, run: str) -> bool:
    """Whether the run was trained with committed code; RunError if its history or its code's version is missing."""
    if not store.epochs(run):
        raise store.damaged(run, "history.csv", "it is not there")
    if not (code := store.status(run).get("code")):
        raise store.damaged(run, "status.json", "it does not say which code the run was trained with")
    return code != "unknown" and not code.endswith("+dirty")
