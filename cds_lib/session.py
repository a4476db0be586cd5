"""What a notebook opens: one table of the study under one profile, ready to train, to read and to show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cds_lib.checkout import CHECKOUT
from cds_lib.data.registry import data_root as find_data_root
from cds_lib.engines import analysis_engine, runner
from cds_lib.engines.local_engine import LocalEngine
from cds_lib.errors import RunError, UsageError
from cds_lib.study import protocols
from cds_lib.study.places import results_dir
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.tables import find_table

if TYPE_CHECKING:
    import pandas as pd


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """What a user has caused is one line in a notebook, and no traceback."""
    try:
        yield
    except (UsageError, RunError, KeyboardInterrupt) as error:
        line = f"{type(error).__name__}: {error}".removesuffix(": ")
        error._render_traceback_ = lambda: [line]  # IPython asks for it by this name
        raise


class Session:
    """A table, a profile, its seeds and its store. See `open_study`."""

    def __init__(
        self,
        table: Table,
        profile: str,
        seeds: Seeds,
        store: Store,
        data_root: Path,
        engine: runner.Engine,
    ):
        self.table, self.profile, self.seeds = table, profile, seeds
        self.store, self.data_root, self.engine = store, data_root, engine

    def plan(self) -> runner.Plan:
        """What is done, missing and failed at this moment."""
        return self._plan(retry_failed=False)

    def _plan(self, retry_failed: bool) -> runner.Plan:
        return runner.make_plan([self.table], self.profile, self.seeds, self.store, retry_failed)

    @_in_one_line()
    def train_missing(self) -> None:
        """Train what the table lacks, also what failed before, then compute the analyses it reads; failures are printed
        and show as missing.

        Trainings are processes that import the module they were started from: a script calls this below
        `if __name__ == "__main__":`; a notebook need not.
        """
        runner.train_missing(self._plan(retry_failed=True), self.store, self.data_root, self.engine)
        analysis_engine.compute_missing(
            [self.table], self.profile, self.seeds, self.store, self.data_root, jobs=self.engine.jobs_here
        )

    def results(self) -> pd.DataFrame:
        """The evidence, one row a planned run of each cell: see `cds_lib.study.report.frame.results`."""
        from cds_lib.study.report.frame import results

        return results(self.table, self.profile, self.seeds, self.store)

    @_in_one_line()
    def frame(self) -> pd.DataFrame:
        """The tidy result, one row per cell."""
        from cds_lib.reporting import report

        return report.tidy(self.table, self.profile, self.seeds, self.store)


@_in_one_line()
def open_study(
    table: str,
    *,
    profile: str = "smoke",
    results: str = "",
    data_root: str = "",
    seeds: str = "",
    jobs: int = 0,
    processes: int = 1,
) -> Session:
    """Open a table of the study. Empty arguments mean the defaults of `run_all.sh`.

    `results` and `data_root` start at the checkout where they are relative, wherever the notebook runs. (Those of
    `run_all.sh` start at the folder that it is called from.)

    Raises:
        UsageError: unknown table or profile, seeds that are no whole numbers, arguments of another type.
    """
    texts = {"table": table, "profile": profile, "results": results, "data_root": data_root, "seeds": seeds}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f'{name} must be a text, such as seeds = "0,1", not {value!r}.')
    if type(jobs) is not int or jobs < 0:
        raise UsageError(f"jobs must be a whole number, 0 for as many as the machine has room for, not {jobs!r}.")
    if type(processes) is not int or processes < 1:
        raise UsageError(f"processes must be a whole number, 1 or more, not {processes!r}.")
    return Session(
        find_table(table),
        protocols.check_profile(profile),
        protocols.parse_seeds(seeds),
        Store(CHECKOUT / results_dir(profile, results)),
        CHECKOUT / find_data_root(data_root),
        LocalEngine(jobs, processes),
    )
