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

from collections.abc import Iterable, Mapping, Sequence
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
        places = {(cell.key, cell.metric): cell for cell in cells}
        pairs = [(BASELINE, cell, places.get((cell.reference, cell.metric))) for cell in cells]
        if not table.margin:  # else its rows differ in batch size and length: no rivals but the one that is named
            pairs += [(RIVAL, cell, rival) for cell in cells if cell.method in OURS for rival in _rivals(cell, cells)]
        for kind, cell, reference in pairs:
            known = reference and None not in (cell.paper, reference.paper)
            if known and (delta := round(cell.paper - reference.paper, 6)):
                found.append(Claim(kind, table.name, (cell,), (reference,), delta, table.source))
        for ours, references in _stated(table, cells, places):
            (table_id,) = table.published
            text, points = poster_claim(table_id)
            where = f'{source(table_id)}; stated on the poster as "{text}"'
            found.append(Claim(POSTER, table.name, tuple(ours), tuple(references), points, where))
    return found


def _rivals(cell: Cell, cells: Iterable[Cell]) -> list[Cell]:
    """The other methods of the row of a cell, but for the baseline."""
    row = (cell.dataset, cell.model, cell.setting, cell.metric)
    in_row = [other for other in cells if (other.dataset, other.model, other.setting, other.metric) == row]
    return [other for other in in_row if other.reference and other is not cell]


def _stated(table: Table, cells: Sequence[Cell], places: Mapping) -> list[tuple[list[Cell], list[Cell]]]:
    """What the poster compares in words: the two that are named, or per setting an average and its references."""
    if table.margin:
        return [tuple([cell for cell in cells if cell.method == method] for method in table.margin)]
    wanted = (cells[0].metric, table.average)
    own = [cell for cell in cells if (cell.metric, cell.method) == wanted and cell.paper is not None]
    groups = [[cell for cell in own if cell.setting == setting] for setting in dict.fromkeys(c.setting for c in own)]
    return [(group, [places[cell.reference, cell.metric] for cell in group]) for group in groups]


def compared_cells(claims: Iterable[Claim]) -> list[Cell]:
    """The cells that the claims compare, each once."""
    compared = [cell for claim in claims for cell in (*claim.cells, *claim.references)]
    return list({(cell.key, cell.metric, cell.paper): cell for cell in compared}.values())
