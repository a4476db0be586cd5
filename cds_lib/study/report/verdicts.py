"""What our runs say of every published claim: the table `summary` as a frame."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cds_lib.study import statistics
from cds_lib.study.plan.claims import Claim
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Cell
from cds_lib.study.report.frame import CELL, COLUMNS, NUMBERS, by_seed, compared
from cds_lib.study.report.naming import name_of
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY
from cds_lib.study.tables.summary import published_claims
from cds_lib.study.text import counted, listed

# After the columns of every table: the claim's kind, the method it is compared with, seeds there should be, Holm's
# p value over the claims of one kind in one table, why the verdict is what it is, what kept it from being tested,
# the data sets of which only a part was at hand, where it was read.
MORE_COLUMNS = ("claimed_in", "kind", "reference", "n_wanted", "p_holm", "why", "cause", "partial", "source")

# In the order of a report.
VERDICTS = (
    *(statistics.REPRODUCED, statistics.CONFIRMED, statistics.CONTRADICTED),
    *(statistics.INCONCLUSIVE, statistics.NOT_RUN, statistics.SMOKE),
)


def claimed(frames: Mapping[str, pd.DataFrame], profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row per claim, in the order of the tables; a claim that was not tested is a row with n = 0.

    frames: `frame.every_result` of the official tables. The columns of every table come first and mean the same
    (baseline_delta: the difference to the claim's reference); of an average they are means over its cells, with the
    seeds that all of them have.
    """
    evidence = _Evidence(frames, store, profile)
    rows = [_row(claim, profile, evidence) for claim in published_claims(profile, seeds)]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *MORE_COLUMNS])
    frame = frame.astype(dict.fromkeys((*NUMBERS, "p_holm"), "float64"))
    for _, family in frame[frame["p_value"].notna()].groupby(["claimed_in", "kind"]):
        frame.loc[family.index, "p_holm"] = statistics.holm(list(family["p_value"]))
    return frame


def with_seeds_enough(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims with seeds enough for a verdict, in the order of `VERDICTS`: decided ones first."""
    rows = frame[(frame["n_pairs"] >= statistics.MIN_SEEDS) & (frame["verdict"] != statistics.SMOKE)]
    return rows.sort_values("verdict", key=lambda verdicts: verdicts.map(VERDICTS.index), kind="stable")


class _Evidence:
    """The rows of every cell; which data sets were trained on; which runs had only a part of their images; which
    failed."""

    def __init__(self, frames: Mapping[str, pd.DataFrame], store: Store, profile: str):
        self._runs = {
            (name, *key): rows for name, frame in frames.items() for key, rows in frame.groupby(CELL, sort=False)
        }
        self.trained: set[str] = set()
        self.partial: set[str] = set()  # ids of runs
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

    def runs(self, table: str, cell: Cell) -> pd.DataFrame:
        """The rows of a cell in the frame of its table."""
        return self._runs[table, cell.dataset, cell.model, cell.method, cell.setting, cell.metric]

    def mean(self, table: str, cells: Sequence[Cell]) -> dict[int, float]:
        """Seed -> mean over the cells, for the seeds that all of them have."""
        found = [by_seed(self.runs(table, cell)) for cell in cells]
        seeds = set.intersection(*map(set, found))
        return {seed: float(np.mean([values[seed] for values in found])) for seed in sorted(seeds)}

    def explained(self, claim: Claim, row: Mapping[str, object]) -> dict[str, str]:
        """The columns why, cause (what kept the claim from being tested) and partial."""
        both = [(cell.dataset, self.runs(claim.table, cell)) for cell in (*claim.cells, *claim.references)]
        incomplete = [dataset for dataset, runs in both if self.partial.intersection(runs["run"])]
        filled = sum(self.runs(claim.table, cell)["value"].notna().any() for cell in claim.cells)
        untrained = _named(cell.dataset for cell in claim.cells if cell.dataset not in self.trained)
        partial = _named(incomplete) if row["n"] else ""
        if row["n_pairs"]:
            cause, why = "", _of_the_interval(row["verdict"], row["n_pairs"])
        elif error := self._error(claim):
            cause, why = "failed", f"a run failed: {error}"
        elif row["reason"]:
            cause, why = "not analysed", f"trained, but not measured: {row['reason']}"
        elif untrained:
            cause = "no images"
            why = f"nothing was trained on {untrained}: not asked for, or the images were not at hand"
        elif not filled:
            cause, why = "not trained", "not trained yet"
        elif filled == len(claim.cells):
            cause = "one side"
            why = f"{name_of(claim.rival)}, which it is compared with, was not trained with the same seed"
        else:
            cause, why = "one side", f"only {filled} of the {len(claim.cells)} cells of the average were trained"
        why += f"; only a part of {partial} was at hand" if partial else ""
        return {"why": why, "cause": cause, "partial": partial}

    def _error(self, claim: Claim) -> str:
        """What stopped a run that the claim needs, "" if none failed."""
        if not self.errors:
            return ""
        specs = (spec for cell in (*claim.cells, *claim.references) for spec in cell.specs)
        return next((self.errors[s.id] for spec in specs for s in spec.lineage if s.id in self.errors), "")


def _row(claim: Claim, profile: str, evidence: _Evidence) -> dict[str, object]:
    cell, both = claim.cells[0], (*claim.cells, *claim.references)
    ours, reference = evidence.mean(claim.table, claim.cells), evidence.mean(claim.table, claim.references)
    runs = pd.concat([evidence.runs(claim.table, each) for each in claim.cells])
    mean = statistics.summarise(list(ours.values()))
    row = {
        "table": SUMMARY,
        "dataset": claim.dataset,
        "model": claim.model,
        "method": cell.method,
        "setting": cell.setting,
        "metric": cell.metric,
        "paper": round(float(np.mean([c.paper for c in claim.cells])), 6),
        "profile": profile,
        "n_planned": min(len(c.seeds) for c in both),
        "runs": " ".join(runs.loc[runs["finished"], "run"]),
        "reason": next(filter(None, (evidence.runs(claim.table, c)["reason"].iloc[0] for c in both)), ""),
        "claimed_in": claim.table,
        "kind": claim.kind,
        "reference": claim.rival,
        "n_wanted": claim.n_wanted,
        "source": claim.source,
        **{"mean": mean.mean, "std": mean.std, "n": mean.n},
        **compared(ours, reference, claim.paper_delta, profile),
    }
    return row | evidence.explained(claim, row)


def _named(datasets: Iterable[str]) -> str:
    return listed([name_of(name) for name in dict.fromkeys(datasets)])


def _of_the_interval(verdict: str, pairs: int) -> str:
    """The reason for the verdict on a claim that was tested."""
    if verdict == statistics.SMOKE:
        return "synthetic data and a few steps: the number means nothing"
    seeds = counted(pairs, "seed")
    if pairs < statistics.MIN_SEEDS:
        return f"{seeds}, and fewer than {statistics.MIN_SEEDS} decide nothing"
    reason = f"the interval {'contains' if verdict == statistics.INCONCLUSIVE else 'excludes'} 0 with {seeds}"
    if pairs < statistics.SIGN_FLIP_SEEDS:
        reason += f", of which the sign-flip test cannot give less than p = {statistics.smallest_p(pairs):.3g}"
    return reason
