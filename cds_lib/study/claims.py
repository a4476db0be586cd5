"""What was published, claim by claim, and what our runs say of each: the rows of the table `summary`.

A claim is one published difference: "method M beats (or trails) its reference on data set D, network A, by so much".
Three kinds are kept apart:

baseline  a cell of a table against the baseline of its row, for every cell with both numbers published
rival     CDS against another method of its row, where both numbers are published: that it beats those as well is the
          paper's main claim, but the paper prints no such differences
poster    what the authors' poster says of a whole table in words: an average over its rows, or a margin

A published difference of exactly 0 has no direction, so it is no claim. Claims come from `TABLES`: a new table with
published numbers joins by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cds_lib.study import analyses, grids, report, statistics, wording
from cds_lib.study.grids import Cell
from cds_lib.study.measures import measure
from cds_lib.study.published import poster_claim, source
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES, Table

POINTS = "percentage points"
BASELINE, RIVAL, POSTER = "baseline", "rival", "poster"
OURS = ("cds", "cds_kd")

# Table -> its published table, the measure and the method of which the poster states the average over the rows.
AVERAGES = {
    "table1_cifar100": ("table_1", grids.TOP1, "cds"),
    "table3_imagenet": ("table_3", grids.TOP1, "cds"),
    "table4_coco": ("table_4", "test_ap_last", "cds"),
    "table6_finegrained": ("table_6", grids.TOP1, "cds"),
    "table7_imagenet_distillation": ("table_7", grids.TOP1, "cds_kd"),
}
# Table -> its published table, and the two rows whose margin the poster states.
MARGINS = {"contrastive_methods": ("contrastive_comparison", "cds_autoaugment", "byol_dsn")}

# Where a claim should have the seeds that a test of it needs; elsewhere the three that a verdict needs.
HEADLINES = {("table1_cifar100", "resnet18"), ("semi_supervised", "resnet18")}

PLOT = "Differences of CDS to its baselines with 95 % intervals, beside the published differences, a line a claim."

# After the columns of every table: the claim's kind, the method it is compared with, seeds that both have, seeds there
# should be, Holm's p value over the claims of one kind in one table, why the verdict is what it is, where it was read.
COLUMNS = (*report.COLUMNS, "claimed_in", "kind", "reference", "n_pairs", "n_wanted", "p_holm", "why", "source")


@dataclass(frozen=True)
class Claim:
    """One published difference and the cells that test it.

    `cells` and `references` belong together pair by pair; there are several for an average. `paper_delta` is in the
    unit of the metric; `source` says where it was read.
    """

    kind: str
    table: str
    cells: tuple[Cell, ...]
    references: tuple[Cell, ...]
    paper_delta: float
    source: str

    @property
    def key(self) -> tuple[str, ...]:
        """Names the claim within the study."""
        cell = self.cells[0]
        return (self.table, self.kind, self.dataset, self.model, cell.method, cell.setting, cell.metric, self.rival)

    @property
    def dataset(self) -> str:
        return _name_of([cell.dataset for cell in self.cells], "data sets")

    @property
    def model(self) -> str:
        return _name_of([cell.model for cell in self.cells], "networks")

    @property
    def rival(self) -> str:
        """The method of the reference."""
        return self.references[0].method

    @property
    def n_wanted(self) -> int:
        headline = any((self.table, cell.model) in HEADLINES for cell in self.cells)
        return statistics.HEADLINE_SEEDS if headline else statistics.MIN_SEEDS


def _name_of(values: Sequence[str], plural: str) -> str:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"mean of {len(distinct)} {plural}"


def collect(profile: str, seeds: tuple[int, ...], tables: Iterable[Table] | None = None) -> list[Claim]:
    """Every claim of the tables (all of the study), in the order of the tables; within one by kind."""
    found = []
    for table in TABLES.values() if tables is None else tables:
        if table.name != SUMMARY:
            cells = table.cells(profile, seeds)
            found += [*_against_baseline(table, cells), *_against_rivals(table, cells), *_of_the_poster(table, cells)]
    return found


def cells(profile: str, seeds: tuple[int, ...]) -> list[Cell]:
    """The cells that the claims compare, each once."""
    compared = [cell for claim in collect(profile, seeds) for cell in (*claim.cells, *claim.references)]
    return list({(cell.key, cell.metric, cell.paper): cell for cell in compared}.values())


def _pair(kind: str, table: Table, cell: Cell, reference: Cell | None) -> list[Claim]:
    """The claim that two cells make, if both numbers are published and differ."""
    if reference is None or cell.paper is None or reference.paper is None:
        return []
    delta = round(cell.paper - reference.paper, 6)
    return [Claim(kind, table.name, (cell,), (reference,), delta, table.source)] if delta else []


def _against_baseline(table: Table, cells: list[Cell]) -> list[Claim]:
    places = {(cell.key, cell.metric): cell for cell in cells}
    return [
        claim for cell in cells for claim in _pair(BASELINE, table, cell, places.get((cell.reference, cell.metric)))
    ]


def _against_rivals(table: Table, cells: list[Cell]) -> list[Claim]:
    def row(cell: Cell) -> tuple[str, ...]:
        return (cell.dataset, cell.model, cell.setting, cell.metric)

    if table.name in MARGINS:  # its rows differ in batch size and length: no rivals but the one that was named
        return []
    return [
        claim
        for cell in cells
        if cell.method in OURS
        for rival in cells
        if row(rival) == row(cell) and rival.reference is not None and rival is not cell
        for claim in _pair(RIVAL, table, cell, rival)
    ]


def _of_the_poster(table: Table, cells: list[Cell]) -> list[Claim]:
    places = {(cell.key, cell.metric): cell for cell in cells}
    if table.name in MARGINS:
        table_id, ours, theirs = MARGINS[table.name]
        (cell,), (rival,) = ([cell for cell in cells if cell.method == method] for method in (ours, theirs))
        return [_stated(table, table_id, [cell], [rival])]
    if table.name not in AVERAGES:
        return []
    table_id, metric, method = AVERAGES[table.name]
    averaged: dict[str, list[Cell]] = {}
    for cell in cells:
        if (cell.metric, cell.method) == (metric, method) and cell.paper is not None:
            averaged.setdefault(cell.setting, []).append(cell)
    return [
        _stated(table, table_id, group, [places[cell.reference, metric] for cell in group])
        for group in averaged.values()
    ]


def _stated(table: Table, table_id: str, cells: list[Cell], references: list[Cell]) -> Claim:
    text, points = poster_claim(table_id)
    where = f'{source(table_id)}; stated on the poster as "{text}"'
    return Claim(POSTER, table.name, tuple(cells), tuple(references), points, where)


# -- what our runs say -------------------------------------------------------------------------------------------------


def tidy(profile: str, seeds: tuple[int, ...], store: Store) -> pd.DataFrame:
    """One row a claim, in the order of `collect`; a claim that was not tested is a row with n = 0.

    The columns of every table come first and mean the same (baseline_delta: the difference to the claim's reference);
    of an average they are means over its cells, with the seeds that all of them have.
    """
    evidence = _Evidence(store)
    rows = [_row(claim, profile, evidence) for claim in collect(profile, seeds)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys((*report.NUMBERS, "p_holm"), "float64"))
    for _, family in frame[frame["p_value"].notna()].groupby(["claimed_in", "kind"]):
        frame.loc[family.index, "p_holm"] = statistics.holm(list(family["p_value"]))
    return frame


def read(results: Path) -> pd.DataFrame:
    """The frame that was written to RESULTS/tables/summary.csv, with the same column types."""
    types = {"n_pairs": "int64", "n_wanted": "int64", "p_holm": "float64"}
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
        "n_planned": len(cell.specs),
        "runs": " ".join(spec.id for c in claim.cells for spec in c.specs if evidence.store.is_done(spec.id)),
        "reason": evidence.unmeasured(claim),
        "claimed_in": claim.table,
        "kind": claim.kind,
        "reference": claim.rival,
        "n_pairs": len(ours.keys() & reference.keys()),
        "n_wanted": claim.n_wanted,
        "source": claim.source,
    }
    row |= report.measured(ours) | report.compared(ours, reference, claim.paper_delta, profile)
    if claim.kind != BASELINE and not row["n_pairs"]:  # half of a comparison tests nothing
        row["verdict"] = statistics.NOT_RUN
    return row | {"why": evidence.why(claim, row)}


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims for the one plot: of CDS against baselines, and of the poster, with the seeds that a verdict needs; as
    long as there are none, with any."""
    frame = frame[[measure(metric).unit == POINTS for metric in frame["metric"]]]  # the axis has one unit
    ours = frame[(frame["method"].str.startswith("cds") & (frame["kind"] == BASELINE)) | (frame["kind"] == POSTER)]
    decided = ours[ours["n_pairs"] >= statistics.MIN_SEEDS]
    return decided if len(decided) else ours


class _Evidence:
    """What a store holds: values, each read once, and beside the numbers which data sets were trained on, whether all
    of their images were at hand, and which runs failed."""

    def __init__(self, store: Store):
        self.store = store
        self.trained: set[str] = set()
        self.partial: set[str] = set()
        self.errors: dict[str, str] = {}
        self._values: dict[int, dict[int, float]] = {}
        for run_id in store.ids():
            status = store.status(run_id)
            if store.is_done(run_id):
                dataset = store.spec(run_id).dataset
                self.trained.add(dataset)
                self.partial |= set() if status.get("data", {}).get("complete", True) else {dataset}
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

    def why(self, claim: Claim, row: Mapping[str, object]) -> str:
        """The reason for the verdict, in words."""
        datasets = dict.fromkeys(cell.dataset for cell in claim.cells)
        return wording.why(
            row["verdict"],
            n=row["n"],
            pairs=row["n_pairs"],
            reference=claim.rival,
            cells=len(claim.cells),
            filled=sum(bool(self.values(cell)) for cell in claim.cells),
            unmeasured=row["reason"],
            error=self._error(claim) if self.errors and not row["n_pairs"] else "",
            untrained=[name for name in datasets if name not in self.trained],
            partial=[name for name in datasets if name in self.partial],
        )

    def unmeasured(self, claim: Claim) -> str:
        """Why finished runs have no value, "" if all have one or none is finished."""
        cells = (*claim.cells, *claim.references)
        reasons = (analyses.reason(cell, self.store) for cell in cells if cell.source in analyses.ANALYSES)
        return next(filter(None, reasons), "")

    def _error(self, claim: Claim) -> str:
        """What stopped a run that the claim needs, "" if none failed."""
        specs = (spec for cell in (*claim.cells, *claim.references) for spec in cell.specs)
        return next((self.errors[s.id] for spec in specs for s in spec.lineage if s.id in self.errors), "")
