"""What a notebook opens: one table of the study under one profile, ready to train, to read and to show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cds_lib.data.registry import data_root as find_data_root
from cds_lib.study import analysis_engine, profiles, runner
from cds_lib.study.store import Store
from cds_lib.study.tables import Table, find_table

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]


def results_dir(profile: str, argument: str = "") -> Path:
    """`argument`, else results/<profile> of this checkout."""
    return Path(argument) if argument else REPOSITORY / "results" / profiles.check_profile(profile)


class Session:
    """A table, a profile, its seeds and its store. See `open_study`."""

    def __init__(self, table: Table, profile: str, seeds: tuple[int, ...], store: Store, data_root: Path, jobs: int):
        self.table, self.profile, self.seeds = table, profile, seeds
        self.store, self.data_root, self.jobs = store, data_root, jobs

    def plan(self) -> runner.Plan:
        """What is done, missing and failed at this moment."""
        return runner.make_plan([self.table], self.profile, self.seeds, self.store, retry_failed=False)

    def train_missing(self) -> None:
        """Train what the table lacks, then compute the analyses it reads; failures are printed and show as missing."""
        runner.train_missing(self.plan(), self.store, self.data_root, jobs=self.jobs)
        table = [self.table]
        analysis_engine.compute_missing(table, self.profile, self.seeds, self.store, self.data_root, jobs=self.jobs)

    def frame(self) -> pd.DataFrame:
        """The tidy result, one row a cell."""
        from cds_lib.study import report

        return report.tidy(self.table, self.profile, self.seeds, self.store)


def open_study(
    table: str, *, profile: str = "smoke", results: str = "", data_root: str = "", seeds: str = "", jobs: int = 0
) -> Session:
    """Open a table of the study. Empty arguments mean the defaults of `run_all.sh`.

    Raises:
        UsageError: unknown table or profile, seeds that are no whole numbers.
    """
    return Session(
        find_table(table),
        profiles.check_profile(profile),
        runner.parse_seeds(seeds, profile),
        Store(results_dir(profile, results)),
        find_data_root(data_root or None),
        jobs,
    )
