"""The published claims: the rows of the table `summary`, before any run.

A claim is one published difference: "method M beats (or trails) its reference on data set D, network A, by so much".
There are three kinds:

baseline  a cell of a table against the baseline of its row, if both numbers are published
rival     CDS against another method of its row, if both numbers are published. The paper's main claim is that CDS beats
          these methods as well, but the poster prints no such differences
poster    a statement of the authors' poster about a whole table: an average over its rows, or a margin

A published difference of exactly 0 has no direction, so it is not a claim. `cds_lib.study.report.verdicts` compares
the claims with our runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cds_lib.study import statistics
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.published import poster_claim, source
from cds_lib.study.plan.table import Cell, Table

BASELINE, RIVAL, POSTER = "baseline", "rival", "poster"
OURS = ("cds", "cds_kd")

# (table, network) whose claims should have enough seeds for a sign-flip test. Others need the three seeds of a verdict.
HEADLINES = {("table1_cifar100", "resnet18"), ("semi_supervised", "resnet18")}


@dataclass(frozen=True)
class Claim:
    """One published difference and the cells that test it.

    `cells` and `references` are paired in order; an average has several pairs. `paper_delta` is in the unit of the
    metric. `source` says where it was read.
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
    """Return the claims of the tables, table by table, each table's claims by kind."""
    found = []
    for table in tables:
        cells = table.cells(profile, seeds)
        places = {(cell.key, cell.metric): cell for cell in cells}
        pairs = [(BASELINE, cell, places.get((cell.reference, cell.metric))) for cell in cells]
        if not table.margin:  # else rows differ in batch size and length, and the named pair is the only comparison
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
    """Return the other methods in the row of a cell, except the baseline."""
    row = (cell.dataset, cell.model, cell.setting, cell.metric)
    in_row = [other for other in cells if (other.dataset, other.model, other.setting, other.metric) == row]
    return [other for other in in_row if other.reference and other is not cell]


def _stated(table: Table, cells: Sequence[Cell], places: Mapping) -> list[tuple[list[Cell], list[Cell]]]:
    """Return what the poster compares in words: two methods, or for each setting an average and its references."""
    if table.margin:
        return [tuple([cell for cell in cells if cell.method == method] for method in table.margin)]
    wanted = (cells[0].metric, table.average)
    own = [cell for cell in cells if (cell.metric, cell.method) == wanted and cell.paper is not None]
    groups = [[cell for cell in own if cell.setting == setting] for setting in dict.fromkeys(c.setting for c in own)]
    return [(group, [places[cell.reference, cell.metric] for cell in group]) for group in groups]


def compared_cells(claims: Iterable[Claim]) -> list[Cell]:
    """Return the cells that the claims compare, each once."""
    compared = [cell for claim in claims for cell in (*claim.cells, *claim.references)]
    return list({(cell.key, cell.metric, cell.paper): cell for cell in compared}.values())
