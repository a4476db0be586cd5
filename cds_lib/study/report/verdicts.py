"""What our runs say about every published claim: the table `summary` as a frame."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from cds_lib.study import statistics
from cds_lib.study.plan.claims import Claim
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.report.frame import CELL, COLUMNS, NUMBERS, by_seed, compared
from cds_lib.study.report.naming import name_of
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY
from cds_lib.study.tables.summary import published_claims
from cds_lib.study.text import counted, listed

# Columns after those of every table: the claim's table and kind, its reference method, the number of seeds it should
# have, Holm's p value over the claims of one kind in one table, the reason for the verdict, what kept the claim from
# being tested, the data sets of which only a part was available, the source of the claim.
MORE_COLUMNS = ("claimed_in", "kind", "reference", "n_wanted", "p_holm", "why", "cause", "partial", "source")

# In the order of a report.
VERDICTS = (
    *(statistics.REPRODUCED, statistics.CONFIRMED, statistics.CONTRADICTED),
    *(statistics.INCONCLUSIVE, statistics.NOT_RUN, statistics.SMOKE),
)


def claimed(frames: Mapping[str, pd.DataFrame], profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """Return one row per claim, in the order of the tables; a claim that was not tested is a row with n = 0.

    frames: `frame.every_result` of the official tables. The columns that every table has come first and mean the same
    (baseline_delta: the difference to the claim's reference). For an average they are means over its cells, with the
    seeds that all its cells have.
    """
    cells = {(name, *key): rows for name, frame in frames.items() for key, rows in frame.groupby(CELL, sort=False)}
    stored, rows = _Stored(store, profile), []
    for claim in published_claims(profile, seeds):
        ours, theirs = (
            [cells[claim.table, *cell.key, cell.metric] for cell in side] for side in (claim.cells, claim.references)
        )
        rows.append(_row(claim, ours, theirs, stored, profile))
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *MORE_COLUMNS])
    frame = frame.astype(dict.fromkeys((*NUMBERS, "p_holm"), "float64"))
    for _, family in frame[frame["p_value"].notna()].groupby(["claimed_in", "kind"]):
        frame.loc[family.index, "p_holm"] = statistics.holm(list(family["p_value"]))
    return frame


def with_seeds_enough(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the claims with enough seeds for a verdict, in the order of `VERDICTS`: decided claims first."""
    rows = frame[(frame["n_pairs"] >= statistics.MIN_SEEDS) & (frame["verdict"] != statistics.SMOKE)]
    return rows.sort_values("verdict", key=lambda verdicts: verdicts.map(VERDICTS.index), kind="stable")


class _Stored:
    """What is known of all runs of a folder. trained: data sets that were trained on; partial: ids of runs that had
    only a part of their images; errors: id -> first line of the error, for runs that failed."""

    def __init__(self, store: Store, profile: str):
        self.trained: set[str] = set()
        self.partial: set[str] = set()
        self.errors: dict[str, str] = {}
        for run_id in store.ids():
            status = store.status(run_id)
            if store.is_done(run_id):
                spec = store.spec(run_id)
                # The first notebook's runs do not count: they are on synthetic images in every profile.
                if spec.budget.source == "real" or profile == "smoke":
                    self.trained.add(spec.dataset)
                if not status.get("data", {}).get("complete", True):
                    self.partial.add(run_id)
            elif status.get("error"):
                self.errors[run_id] = status["error"].splitlines()[0]


def _row(
    claim: Claim, ours: list[pd.DataFrame], theirs: list[pd.DataFrame], stored: _Stored, profile: str
) -> dict[str, object]:
    """Return the row of a claim. ours, theirs: the rows of each of its cells and references."""
    cell, both = claim.cells[0], [*ours, *theirs]
    values, runs = _mean(ours), pd.concat(ours)
    mean = statistics.summarise([*values.values()])
    row = {
        "table": SUMMARY,
        "dataset": claim.dataset,
        "model": claim.model,
        "method": cell.method,
        "setting": cell.setting,
        "metric": cell.metric,
        "paper": round(float(np.mean([c.paper for c in claim.cells])), 6),
        "profile": profile,
        "n_planned": min(map(len, both)),
        "runs": " ".join(runs.loc[runs["finished"], "run"]),
        "reason": next(filter(None, (rows["reason"].iloc[0] for rows in both)), ""),
        "claimed_in": claim.table,
        "kind": claim.kind,
        "reference": claim.rival,
        "n_wanted": claim.n_wanted,
        "source": claim.source,
        **{"mean": mean.mean, "std": mean.std, "n": mean.n},
        **compared(values, _mean(theirs), claim.paper_delta, profile),
    }
    part = _named(rows["dataset"].iloc[0] for rows in both if stored.partial.intersection(rows["run"]))
    row["partial"] = part if mean.n else ""
    row["cause"], why = _cause(claim, row, sum(rows["value"].notna().any() for rows in ours), stored)
    return row | {"why": f"{why}; only a part of {part} was available" if row["partial"] else why}


def _mean(cells: list[pd.DataFrame]) -> dict[int, float]:
    """Return seed -> mean over the cells, for the seeds that all cells have."""
    found = [by_seed(rows) for rows in cells]
    seeds = set.intersection(*map(set, found))
    return {seed: float(np.mean([values[seed] for values in found])) for seed in sorted(seeds)}


def _cause(claim: Claim, row: Mapping[str, object], filled: int, stored: _Stored) -> tuple[str, str]:
    """Return what kept a claim from being tested ("" if nothing did), and the reason for its verdict. filled: number of
    its cells that have a value."""
    needed = [run.id for cell in (*claim.cells, *claim.references) for spec in cell.specs for run in spec.lineage]
    error = next((stored.errors[run] for run in needed if run in stored.errors), "")
    untrained = _named(cell.dataset for cell in claim.cells if cell.dataset not in stored.trained)
    without = f"nothing was trained on {untrained}: not asked for, or no images available"
    alone = f"{name_of(claim.rival)}, which it is compared with, was not trained with the same seed"
    some = f"only {filled} of the {len(claim.cells)} cells of the average were trained"
    causes = [  # the first that applies
        (row["n_pairs"], "", _of_the_interval(row["verdict"], row["n_pairs"])),
        (error, "failed", f"a run failed: {error}"),
        (row["reason"], "not analysed", f"trained, but not measured: {row['reason']}"),
        (untrained, "no images", without),
        (not filled, "not trained", "not trained yet"),
        (True, "one side", alone if filled == len(claim.cells) else some),
    ]
    return next((cause, why) for applies, cause, why in causes if applies)


def _named(datasets: Iterable[str]) -> str:
    return listed([name_of(name) for name in dict.fromkeys(datasets)])


def _of_the_interval(verdict: str, pairs: int) -> str:
    """Return the reason for the verdict on a claim that was tested."""
    if verdict == statistics.SMOKE:
        return "synthetic data and a few steps: the number means nothing"
    seeds = counted(pairs, "seed")
    if pairs < statistics.MIN_SEEDS:
        return f"{seeds}, and fewer than {statistics.MIN_SEEDS} decide nothing"
    reason = f"the interval {'contains' if verdict == statistics.INCONCLUSIVE else 'excludes'} 0 with {seeds}"
    if pairs < statistics.SIGN_FLIP_SEEDS:
        reason += f"; with so few the sign-flip test cannot go below p = {statistics.smallest_p(pairs):.3g}"
    return reason
