"""What our runs say of every published claim: the table `summary` as a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cds_lib.study import analyses, naming, statistics
from cds_lib.study.claims import Claim
from cds_lib.study.protocols import Seeds
from cds_lib.study.report import report, wording
from cds_lib.study.report.frame import compared
from cds_lib.study.store import Store
from cds_lib.study.table import Cell
from cds_lib.study.tables import SUMMARY
from cds_lib.study.tables.summary import published_claims
from cds_lib.study.text import listed

# After the columns of every table: the claim's kind, the method it is compared with, seeds there should be, Holm's
# p value over the claims of one kind in one table, why the verdict is what it is, what kept it from being tested,
# the data sets of which only a part was at hand, where it was read.
COLUMNS = (*report.COLUMNS, "claimed_in", "kind", "reference", "n_wanted", "p_holm")
COLUMNS += ("why", "cause", "partial", "source")


def tidy(profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row per claim, in the order of the tables; a claim that was not tested is a row with n = 0.

    The columns of every table come first and mean the same (baseline_delta: the difference to the claim's reference);
    of an average they are means over its cells, with the seeds that all of them have.
    """
    evidence = _Evidence(store, profile)
    rows = [_row(claim, profile, evidence) for claim in published_claims(profile, seeds)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys((*report.NUMBERS, "p_holm"), "float64"))
    for _, family in frame[frame["p_value"].notna()].groupby(["claimed_in", "kind"]):
        frame.loc[family.index, "p_holm"] = statistics.holm(list(family["p_value"]))
    return frame


def read(results: Path) -> pd.DataFrame:
    """The frame that was written to RESULTS/tables/summary.csv, with the same column types."""
    types = {"n_wanted": "int64", "p_holm": "float64"}
    more = {name: types.get(name, "str") for name in COLUMNS[len(report.COLUMNS) :]}
    return report.read_table(SUMMARY, results, more)


def _row(claim: Claim, profile: str, evidence: _Evidence) -> dict[str, object]:
    cell = claim.cells[0]
    ours, reference = evidence.mean(claim.cells), evidence.mean(claim.references)
    row = {
        "table": SUMMARY,
        "dataset": claim.dataset,
        "model": claim.model,
        "method": cell.method,
        "setting": cell.setting,
        "metric": cell.metric,
        "paper": round(float(np.mean([c.paper for c in claim.cells])), 6),
        "profile": profile,
        "n_planned": min(len(c.specs) for c in (*claim.cells, *claim.references)),
        "runs": " ".join(spec.id for c in claim.cells for spec in c.specs if evidence.store.is_done(spec.id)),
        "reason": evidence.unmeasured(claim),
        "claimed_in": claim.table,
        "kind": claim.kind,
        "reference": claim.rival,
        "n_wanted": claim.n_wanted,
        "source": claim.source,
    }
    mean = statistics.summarise(list(ours.values()))
    row |= {"mean": mean.mean, "std": mean.std, "n": mean.n} | compared(ours, reference, claim.paper_delta, profile)
    return row | evidence.explained(claim, row)


class _Evidence:
    """What a store holds: values, each read once, and beside the numbers which data sets were trained on, which runs
    had only a part of their images at hand, and which failed."""

    def __init__(self, store: Store, profile: str):
        self.store = store
        self.trained: set[str] = set()
        self.partial: set[str] = set()  # ids of runs
        self.errors: dict[str, str] = {}
        self._values: dict[int, dict[int, float]] = {}
        for run_id in store.ids():
            status = store.status(run_id)
            if store.is_done(run_id):
                spec = store.spec(run_id)
                # Not the first notebook's lesson, which is on synthetic data in every profile.
                if spec.budget.source == "real" or profile == "smoke":
                    self.trained.add(spec.dataset)
                self.partial |= set() if status.get("data", {}).get("complete", True) else {run_id}
            elif status.get("error"):
                self.errors[run_id] = status["error"].splitlines()[0]

    def values(self, cell: Cell) -> dict[int, float]:
        """Seed -> value; the cells of one table are read for many claims."""
        if id(cell) not in self._values:
            self._values[id(cell)] = report.by_seed(cell, cell.metric, self.store)
        return self._values[id(cell)]

    def mean(self, cells: Sequence[Cell]) -> dict[int, float]:
        """Seed -> mean over the cells, for the seeds that all of them have."""
        found = [self.values(cell) for cell in cells]
        seeds = set.intersection(*map(set, found))
        return {seed: float(np.mean([values[seed] for values in found])) for seed in sorted(seeds)}

    def explained(self, claim: Claim, row: Mapping[str, object]) -> dict[str, str]:
        """The columns why, cause and partial."""
        n, pairs = row["n"], row["n_pairs"]
        datasets = dict.fromkeys(cell.dataset for cell in claim.cells)
        specs = [spec for cell in (*claim.cells, *claim.references) for spec in cell.specs]
        incomplete = dict.fromkeys(spec.dataset for spec in specs if spec.id in self.partial)
        filled = sum(bool(self.values(cell)) for cell in claim.cells)
        untrained = [naming.name_of(name) for name in datasets if name not in self.trained]
        error = "" if pairs else self._error(claim)
        if pairs:
            cause = ""
        elif error:
            cause = wording.FAILED
        elif row["reason"]:
            cause = wording.UNMEASURED
        elif untrained:
            cause = wording.UNTOUCHED
        else:
            cause = wording.HALF if filled else wording.UNTRAINED
        partial = listed([naming.name_of(name) for name in incomplete]) if n else ""
        why = wording.why(
            row["verdict"],
            cause,
            pairs=pairs,
            reference=claim.rival,
            cells=len(claim.cells),
            filled=filled,
            error=error,
            unmeasured=row["reason"],
            untrained=untrained,
            partial=partial,
        )
        return {"why": why, "cause": cause, "partial": partial}

    def unmeasured(self, claim: Claim) -> str:
        """Why finished runs have no value, "" if all have one or none is finished."""
        cells = (*claim.cells, *claim.references)
        reasons = (analyses.reason(cell, self.store) for cell in cells if cell.source in analyses.ANALYSES)
        return next(filter(None, reasons), "")

    def _error(self, claim: Claim) -> str:
        """What stopped a run that the claim needs, "" if none failed."""
        specs = (spec for cell in (*claim.cells, *claim.references) for spec in cell.specs)
        return next((self.errors[s.id] for spec in specs for s in spec.lineage if s.id in self.errors), "")
