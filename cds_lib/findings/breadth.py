"""What the networks of a table say together: each counts once, however many seeds it has.

Verdicts need seeds, and a miniature has one of most networks: that decides nothing about any of them. Ten networks in
one direction do say something about networks in general. The interval here is over networks, not over seeds, and no
verdict rests on it: networks that share a seed share their training images, so they err together in part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from IPython.display import HTML

from cds_lib.findings.comparisons import BASELINE, CDS, CLASSIFIERS, LOSS
from cds_lib.reporting import formats, naming, report
from cds_lib.reporting.grid import Grid
from cds_lib.study import statistics
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.tables import TABLES
from cds_lib.text import counted, listed

if TYPE_CHECKING:
    from cds_lib.session import Session

# Every method with the baseline, then CDS with every other.
COMPARISONS = [(method, BASELINE) for method in (*CLASSIFIERS, CDS)] + [(CDS, method) for method in CLASSIFIERS]
_SHOWN = (BASELINE, "dsn", CDS)  # in the grid of networks
LEAST = statistics.MIN_SEEDS  # networks, as seeds for a verdict
_TOGETHER = (
    "Each network counts once, with the mean of its seed-by-seed differences; intervals are over networks, not seeds. "
    "The networks share their training images, so no verdict rests on this."
)
_TUNED = " Loss weights were chosen on ResNet-18 and CIFAR-100 alone."


def together(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row a comparison of two methods of a table of networks, for those that three networks or more have runs of.

    Columns: method, reference; networks: how many have a seed of both; above: of how many the difference is positive;
    delta, ci_low, ci_high, p_value: the mean over networks, in percentage points, with its 95 % t interval and
    sign-flip test.
    """
    accuracies = {
        (cell.model, cell.method): report.by_seed(cell, cell.metric, store) for cell in table.cells(profile, seeds)
    }
    there = {method for _, method in accuracies}
    rows = []
    for method, reference in COMPARISONS:
        if not {method, reference} <= there:
            continue
        differences = {
            model: statistics.paired_difference(values, accuracies[model, reference]).delta
            for (model, ours), values in accuracies.items()
            if ours == method and values.keys() & accuracies[model, reference].keys()
        }
        found = statistics.paired_difference(differences, dict.fromkeys(differences, 0.0))
        above = sum(delta > 0 for delta in differences.values())
        rows.append((method, reference, found.n, above, found.delta, found.ci_low, found.ci_high, found.p_sign_flip))
    columns = ["method", "reference", "networks", "above", "delta", "ci_low", "ci_high", "p_value"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame[frame["networks"] >= LEAST]


def in_short(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS over the networks of Table 1, in a sentence or two; none in smoke, or of fewer than three networks."""
    table = TABLES["table1_cifar100"]
    frame = together(table, profile, seeds, store)
    rows = [row for row in frame.itertuples() if row.method == CDS and row.reference in (BASELINE, "dsn")]
    if profile == "smoke" or not rows:
        return []
    said = "; ".join(
        f"{_compared(row).replace('against', 'minus')} {_difference(row)}, above 0 in {row.above} of {row.networks}"
        for row in rows
    )
    fit = _fit_in_short(_ends(table, profile, seeds, store))
    return [f"Over the networks of Table 1, each counted once (interval over networks): {said}.{fit}"]


def _fit_in_short(ends: Mapping[str, End]) -> str:
    """In how many networks CDS fits the training images better, and those with seeds enough where it does not."""
    lower = sum(end.cds < end.baseline for end in ends.values())
    if not lower:
        return ""
    several = {model: end for model, end in ends.items() if end.seeds >= statistics.MIN_SEEDS}
    higher = [f"{naming.name_of(m)} ({end.seeds} seeds)" for m, end in several.items() if end.cds >= end.baseline]
    others = f" With {listed(higher)} it fits them less well." if higher else ""
    return (
        f" In {lower} of {len(ends)} CDS fits the training images better than the baseline: a faster fit, and not the "
        f"regularisation that the paper argues for.{others}"
    )


def grids(table: Table, profile: str, seeds: Seeds, store: Store) -> list[Grid]:
    """All networks of a table together, a row a comparison, then each network; none in smoke, or of fewer than three
    networks."""
    frame = together(table, profile, seeds, store)
    if profile == "smoke" or frame.empty:
        return []
    rows = tuple(
        (_compared(row), f"{row.above} of {row.networks}", _difference(row), f"{row.p_value:.3f}")
        for row in frame.itertuples()
    )
    headings = ("above in", "mean difference [95 % CI over networks]", "p")
    note = _TOGETHER + (_TUNED if profile == "mini" else "")
    every = Grid("all networks together", headings, rows, (note,))
    return [every, *_each(table, profile, seeds, store)]


def shown(study: Session) -> HTML:
    """The grids of this table."""
    found = grids(study.table, study.profile, study.seeds, study.store)
    return HTML("".join(grid.html() for grid in found))


class End(NamedTuple):
    """Of a network: the training cross-entropy of the last epoch, over the seeds of both, and how many these are."""

    baseline: float
    cds: float
    seeds: int


def _ends(table: Table, profile: str, seeds: Seeds, store: Store) -> dict[str, End]:
    """Those of the networks that have runs of both."""
    cells = {(cell.model, cell.method): cell for cell in table.cells(profile, seeds)}
    ends: dict[str, End] = {}
    for model in dict.fromkeys(model for model, _ in cells):
        pair = [cells[model, method] for method in (BASELINE, CDS) if (model, method) in cells]
        both = [report.by_seed(cell, LOSS, store) for cell in pair]
        if len(both) == 2 and (common := both[0].keys() & both[1].keys()):
            ends[model] = End(*(sum(end[seed] for seed in common) / len(common) for end in both), len(common))
    return ends


def _each(table: Table, profile: str, seeds: Seeds, store: Store) -> list[Grid]:
    """Accuracy and final training loss of each network that has runs of the baseline and CDS; none without any."""
    ends = _ends(table, profile, seeds, store)
    if not ends:
        return []
    cells = {(cell.model, cell.method): cell for cell in table.cells(profile, seeds)}
    rows = []
    for model, end in ends.items():
        shown = [cells.get((model, name)) for name in _SHOWN]
        accuracies = [report.by_seed(cell, cell.metric, store) if cell else {} for cell in shown]
        means = [f"{sum(found.values()) / len(found):.2f}" if found else formats.EMPTY for found in accuracies]
        name = f"{naming.name_of(model)} ({counted(end.seeds, 'seed')})"
        rows.append((name, *means, f"{end.baseline:.2f}", f"{end.cds:.2f}"))
    lower = [naming.name_of(model) for model, end in ends.items() if end.cds < end.baseline]
    meaning = (
        f"With CDS {listed(lower)} fit the training images better than without: a gain there goes with a faster fit, "
        "which is not the regularisation that the paper argues for."
        if lower
        else "In none does CDS fit the training images better than the baseline, as in the paper."
    )
    widths = "Networks differ in width, so they cannot be compared with one another. " if profile == "mini" else ""
    headings = (
        *(f"top-1, {naming.method_name(name)}" for name in _SHOWN),
        "training loss, baseline",
        "training loss, CDS",
    )
    note = "Training loss: the cross-entropy of the last epoch."
    return [Grid("network", headings, tuple(rows), (note, widths + meaning))]


def _compared(row: Any) -> str:
    """`CDS against DSN`, `DSN against the baseline`"""
    reference = "the baseline" if row.reference == BASELINE else naming.method_name(row.reference)
    return f"{naming.method_name(row.method)} against {reference}"


def _difference(row: Any) -> str:
    return formats.difference(row.delta, row.ci_low, row.ci_high)
