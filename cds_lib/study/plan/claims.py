"""The published claims, one by one: the rows of the table `summary`, before any run.

A claim is one published difference: "method M beats (or trails) its reference on data set D, network A, by so much".
Three kinds are kept apart:

baseline  a cell of a table against the baseline of its row, for every cell with both numbers published
rival     CDS against another method of its row, where both numbers are published: that it beats those as well is the
          paper's main claim, but the poster prints no such differences
poster    what the authors' poster says of a whole table in words: an average over its rows, or a margin

A published difference of exactly 0 has no direction, so it is no claim. What our runs say of the claims is in
`cds_lib.study.report.verdicts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cds_lib.study import statistics
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.published import poster_claim, source
from cds_lib.study.plan.table import Cell, Table

BASELINE, RIVAL, POSTER = "baseline", "rival", "poster"
OURS = ("cds", "cds_kd")

# Where a claim should have the seeds that a test of it needs; elsewhere the three that a verdict needs.
HEADLINES = {("table1_cifar100", "resnet18"), ("semi_supervised", "resnet18")}


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
        headline = all((self.table, cell.model) in HEADLINES for cell in self.cells)
        return statistics.SIGN_FLIP_SEEDS if headline else statistics.MIN_SEEDS


def _name_of(values: Sequence[str], plural: str) -> str:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"mean of {len(distinct)} {plural}"


def collect(tables: Iterable[Table], profile: str, seeds: Seeds) -> list[Claim]:
    """Every claim of the tables, in their order; within one by kind."""
    found = []
    for table in tables:
        cells = table.cells(profile, seeds)
        found += [*_against_baseline(table, cells), *_against_rivals(table, cells), *_of_the_poster(table, cells)]
    return found


def compared_cells(claims: Iterable[Claim]) -> list[Cell]:
    """The cells that the claims compare, each once."""
    compared = [cell for claim in claims for cell in (*claim.cells, *claim.references)]
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

    if table.margin:  # its rows differ in batch size and length: no rivals but the one that was named
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
    if table.margin:
        (cell,), (rival,) = ([cell for cell in cells if cell.method == method] for method in table.margin)
        return [_stated(table, [cell], [rival])]
    averaged: dict[str, list[Cell]] = {}
    for cell in cells:
        if (cell.metric, cell.method) == (cells[0].metric, table.average) and cell.paper is not None:
            averaged.setdefault(cell.setting, []).append(cell)
    return [
        _stated(table, group, [places[cell.reference, cell.metric] for cell in group]) for group in averaged.values()
    ]


def _stated(table: Table, cells: list[Cell], references: list[Cell]) -> Claim:
    (table_id,) = table.published
    text, points = poster_claim(table_id)
    where = f'{source(table_id)}; stated on the poster as "{text}"'
    return Claim(POSTER, table.name, tuple(cells), tuple(references), points, where)
