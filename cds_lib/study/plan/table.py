"""A table of the study: cells with a title, a question and the source of its published numbers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from cds_lib.errors import UsageError
from cds_lib.study.plan import protocols, published
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.spec import RunSpec

TOP1, TOP5 = "test_top1_last", "test_top5_last"
METRICS, HISTORY = "metrics", "history"

CellKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cell:
    """One number of a table: a run, its seeds, the metric to read from each, and the published value.

    `dataset`, `model`, `method` and `setting` name the row. The names in its run may differ (a linear classifier on a
    network that `supcon` pre-trained). `source` says where the metric is read: "metrics" is metrics.json, "history" the
    last row of history.csv, any other value the name of an analysis (`study.analyses`). `reference` is the key of the
    cell it is compared with, or None. `run` is None while a registered plan has not chosen the settings of the row; the
    row then has no runs.
    """

    dataset: str
    model: str
    method: str
    setting: str
    metric: str
    run: RunSpec | None
    seeds: tuple[int, ...]
    paper: float | None = None
    reference: CellKey | None = None
    source: str = METRICS

    @property
    def key(self) -> CellKey:
        """The key of the cell, unique among the cells of one metric."""
        return (self.dataset, self.model, self.method, self.setting)

    @cached_property
    def specs(self) -> tuple[RunSpec, ...]:
        """The runs of the cell, one per seed."""
        return tuple(self.run.with_seed(seed) for seed in self.seeds if self.run)


def cell(
    run: RunSpec,
    seeds: tuple[int, ...],
    *,
    method: str = "",
    setting: str = "",
    metric: str = TOP1,
    paper: float | None = None,
    reference: CellKey | str | None = "baseline",
    source: str = METRICS,
) -> Cell:
    """Return the cell of a run; `method` and `setting` default to those of the run.

    reference: the method in its row to compare with (its own: no comparison), or the key of a cell in another row.
    """
    method, setting = method or run.method, setting or run.setting
    if isinstance(reference, str):
        reference = None if reference == method else (run.dataset, run.model, reference, setting)
    return Cell(run.dataset, run.model, method, setting, metric, run, seeds, paper, reference, source)


@dataclass(frozen=True)
class Table:
    """A table of the study. Each file in `cds_lib/study/tables` defines one, which takes the name of the file.

    title and topic: display name, such as "Table 1", and subject.
    build: profile -> the cells, in print order, with the seeds of the profile.
    published: ids of its published numbers in `paper_tables.yaml`; unpublished: why the paper's numbers are not known;
    note: text that is printed instead of either.
    average: the method whose average difference over the rows the poster states; margin: the two methods whose
    difference the poster states.
    names: display names of its rows and settings that neither the catalogue nor another table has; colours: colours of
    such rows in figures.
    protocol: description of what is run, if it is the same in every profile.
    own_seeds: whether it always has the seeds of `build`, whichever are requested.
    official: False for a table that is not the paper's and is part of no claim, count or cost.
    """

    title: str
    question: str
    build: Callable[[str], list[Cell]]
    topic: str = ""
    published: tuple[str, ...] = ()
    unpublished: str = ""
    note: str = ""
    average: str = ""
    margin: tuple[str, str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    own_seeds: bool = False
    official: bool = True
    name: str = ""

    @property
    def heading(self) -> str:
        """Title and topic."""
        return f"{self.title}: {self.topic}" if self.topic else self.title

    @property
    def source(self) -> str:
        """Where the published numbers were read, in words."""
        if self.published:
            return " and ".join(published.source(table_id) for table_id in self.published)
        return self.note or f"none: {self.unpublished}"

    def describe(self, profile: str) -> str:
        """Return a description of what is run under a profile; shown wherever the numbers appear."""
        return self.protocol or protocols.DESCRIPTIONS[protocols.check_profile(profile)]

    def cells(self, profile: str, seeds: Seeds) -> list[Cell]:
        """Return all cells under a profile, in print order. `seeds`: for every cell; None: those of the profile.

        UsageError for an unknown profile.
        """
        cells = self.build(protocols.check_profile(profile))
        if seeds is None or self.own_seeds:
            return cells
        return [replace(cell, seeds=seeds) for cell in cells]

    def runs(self, profile: str, seeds: Seeds) -> list[RunSpec]:
        """Return all runs of the table, each once, parents before children, seed by seed so that cells fill early."""
        cells = self.cells(profile, seeds)
        most = max((len(cell.specs) for cell in cells), default=0)
        leaves = [spec for i in range(most) for cell in cells for spec in cell.specs[i : i + 1]]
        return list({spec.id: spec for leaf in leaves for spec in leaf.lineage}.values())


def narrowed(tables: Iterable[Table], profile: str, models: str, methods: str) -> list[Table]:
    """Return the tables reduced to the cells of these networks and methods and the cells they are compared with.

    models, methods: names separated by commas, "" for all. A table that has no such cell is left out.

    Raises:
        UsageError: an unknown name, or none of the tables has such a cell.
    """
    tables = list(tables)
    asked = {"model": models, "method": methods}
    wanted = {what: {name.strip() for name in text.split(",")} for what, text in asked.items() if text}
    if not wanted:
        return tables
    every = [cell for table in tables for cell in table.cells(profile, None)]
    for what, names in wanted.items():
        known = dict.fromkeys(getattr(cell, what) for cell in every)
        if unknown := sorted(names - known.keys()):
            raise UsageError(f"There is no {what} {unknown[0]!r} here: choose from {', '.join(known)}.")

    def part(table: Table) -> Table:
        def build(profile: str) -> list[Cell]:
            cells = table.build(profile)
            kept = [cell for cell in cells if all(getattr(cell, what) in names for what, names in wanted.items())]
            references = {cell.reference for cell in kept}
            return [cell for cell in cells if cell in kept or cell.key in references]

        return replace(table, build=build)

    found = [narrow for narrow in map(part, tables) if narrow.build(profile)]
    if not found:
        raise UsageError("No table has these methods with these models: see --list.")
    return found
