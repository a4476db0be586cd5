"""What a table of the study is: a grid of runs with a name, a question and the source of its published numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cds_lib.study import profiles, protocol
from cds_lib.study.grids import Cell
from cds_lib.study.profiles import Seeds
from cds_lib.study.spec import RunSpec


@dataclass(frozen=True)
class Table:
    """A grid of runs with a name, the question it answers, and the source of its published numbers.

    reference: what its differences are taken to, in words.
    protocol: what is run where that is the same in every profile; None: the profile says it.
    """

    name: str
    title: str
    question: str
    source: str
    build: Callable[[str, Seeds], list[Cell]]
    reference: str = "baseline"
    protocol: str | None = None

    def describe(self, profile: str) -> str:
        """What is run under a profile, in words; shown wherever the numbers are."""
        if self.protocol:
            return self.protocol
        runs = (run for cell in self.cells(profile, (0,)) for spec in cell.specs for run in spec.lineage)
        return protocol.describe(profile, {"detection" if r.detects else profiles.family_of(r.dataset) for r in runs})

    def cells(self, profile: str, seeds: Seeds) -> list[Cell]:
        """All cells under a profile, in print order; `seeds`: of every cell, None: those of the profile.

        UsageError for an unknown profile.
        """
        return self.build(profiles.check_profile(profile), seeds)

    def runs(self, profile: str, seeds: Seeds) -> list[RunSpec]:
        """All runs of the table, each once, parents before children, seed by seed so that cells fill early."""
        cells = self.cells(profile, seeds)
        most = max((len(cell.specs) for cell in cells), default=0)
        leaves = [spec for i in range(most) for cell in cells for spec in cell.specs[i : i + 1]]
        return list({spec.id: spec for leaf in leaves for spec in leaf.lineage}.values())
