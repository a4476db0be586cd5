"""The session of a notebook: one table of the study under one profile, ready to train, to read and to show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cds_lib.errors import UsageError
from cds_lib.study import analyses
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.commands import own
from cds_lib.study.data.registry import data_root as find_data_root
from cds_lib.study.engines import analysis_engine, runner
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.errors import NothingRun, in_one_line
from cds_lib.study.plan import protocols
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table, narrowed
from cds_lib.study.report.frame import every_result, histories, results, tidy
from cds_lib.study.report.verdicts import claimed
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import find_table, official


@dataclass(frozen=True)
class Session:
    """A table, a profile, its seeds and its store. See `open_study`."""

    table: Table
    profile: str
    seeds: Seeds
    store: Store
    data_root: Path
    engine: LocalEngine
    writes: bool = True

    def plan(self, retry_failed: bool = False) -> runner.Plan:
        """Return which runs are done, missing and failed now; with `retry_failed`, failed runs count as missing."""
        return runner.make_plan([self.table], self.profile, self.seeds, self.store, retry_failed)

    def train_missing(self) -> None:
        """Train the table's missing runs, including those that failed before, then compute its analyses. Failures are
        printed and show as missing.

        Each training is a process that imports the module it was started from. A script must therefore call this below
        `if __name__ == "__main__":`; a notebook need not.
        """
        runner.train_missing(self.plan(retry_failed=True), self.store, self.data_root, self.engine)
        analysis_engine.compute_missing(
            [self.table], self.profile, self.seeds, self.store, self.data_root, jobs=self.engine.jobs
        )

    def describe(self) -> str:
        """Say what the profile runs, how much is done, and its training time. NothingRun: there are no results."""
        rows = self.results()
        if rows["value"].isna().all():
            raise NothingRun(f"{self.table.name} has no result in {self.store.root} yet: set train = True.")
        hours = rows.drop_duplicates("run")["seconds"].sum() / 3600
        return f"{self.table.describe(self.profile)} {self.plan().describe()}; {hours:.1f} hours of training."

    def results(self) -> pd.DataFrame:
        """Return the evidence, one row per planned run of each cell: see `cds_lib.study.report.frame.results`."""
        return results(self.table, self.profile, self.seeds, self.store)

    def frame(self) -> pd.DataFrame:
        """Return the tidy result, one row per cell."""
        return tidy(self.results())

    def history(self) -> pd.DataFrame:
        """Return one row per epoch of every finished run: see `cds_lib.study.report.frame.histories`."""
        return histories(self.results(), self.store)

    def claims(self) -> pd.DataFrame:
        """Return every published claim of the study, one row each: see `cds_lib.study.report.verdicts.claimed`."""
        frames = every_result(official(), self.profile, self.seeds, self.store)
        return claimed(frames, self.profile, self.seeds, self.store)

    def analysis(self, run: str, name: str) -> dict[str, Any]:
        """Return the result of an analysis of a run, including picture data; {} if it was not computed."""
        return analyses.read(self.store, run, name) or {}

    def figure(self, kind: str = "") -> Path | None:
        """Return the path of a figure: RESULTS/figures/<table>[_<kind>].svg. Return None, so that no file is written,
        if `open_study` was given no results folder."""
        name = f"{self.table.name}_{kind}" if kind else self.table.name
        return self.store.root / "figures" / f"{name}.svg" if self.writes else None

    def train(self, method: str, model: str = "", seed: int = 0, **changes: Any) -> pd.DataFrame:
        """Train one run of this table with other options, in results/mine, and return its row of `results`.

        changes: options of the method (weight, taps, temperature) or of the budget (epochs, lr, train_size,
        source="standin"); the method's name in the row includes them. A run that already exists is only read.

        Raises:
            UsageError: the table has no such run, there is no such option, or no data. RunError: the training failed.
        """
        found = [c for c in self.table.cells(self.profile, None) if c.method == method and model in ("", c.model)]
        if not found:
            raise UsageError(f"{self.table.name} has no run of {method!r} with {model or 'any network'!r}.")
        return own.train(
            self.table, found[0], self.profile, seed, changes, own.own_store(), self.data_root, self.engine
        )


def open_study(
    table: str,
    *,
    profile: str = "smoke",
    results: str = "",
    data_root: str = "",
    seeds: str = "",
    models: str = "",
    methods: str = "",
    jobs: int = 0,
    processes: int = 1,
) -> Session:
    """Open a table of the study. Empty arguments mean the defaults of `run_all.sh`.

    `models`, `methods`: comma-separated names of the wanted rows; the rows they are compared with are kept.

    Relative paths in `results` and `data_root` start at the checkout, wherever the notebook runs. (In `run_all.sh` they
    start at the current folder.)

    Raises:
        UsageError: unknown table or profile, seeds that are not whole numbers, arguments of a wrong type.
    """
    in_one_line()
    texts = {"table": table, "profile": profile, "results": results, "data_root": data_root, "seeds": seeds}
    texts |= {"models": models, "methods": methods}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f'{name} must be a text, such as seeds = "0,1", not {value!r}.')
    if type(jobs) is not int or jobs < 0:
        raise UsageError(f"jobs must be a whole number, 0 for as many as the machine has room for, not {jobs!r}.")
    if type(processes) is not int or processes < 1:
        raise UsageError(f"processes must be a whole number, 1 or more, not {processes!r}.")
    (chosen,) = narrowed([find_table(table)], protocols.check_profile(profile), models, methods)
    return Session(
        chosen,
        profile,
        protocols.parse_seeds(seeds),
        Store(CHECKOUT / results_dir(profile, results)),
        CHECKOUT / find_data_root(data_root),
        LocalEngine(jobs, processes),
        writes=bool(results),
    )
