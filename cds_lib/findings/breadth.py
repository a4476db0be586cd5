"""What the networks of a table say together: each counts once, however many seeds it has.

Verdicts need seeds, and a miniature has one of most networks: that decides nothing about any of them. Ten networks in
one direction do say something about networks in general. The interval here is over networks, not over seeds, and no
verdict rests on it: networks that share a seed share their training images, so they err together in part.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import HTML

from cds_lib.findings.comparisons import BASELINE, CDS, CLASSIFIERS, LOSS, last_epoch
from cds_lib.reporting import formats, naming, report
from cds_lib.study import statistics
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.tables import TABLES
from cds_lib.text import listed

if TYPE_CHECKING:
    from cds_lib.session import Session

# Every method with the baseline, then CDS with every other.
COMPARISONS = [(method, BASELINE) for method in (*CLASSIFIERS, CDS)] + [(CDS, method) for method in CLASSIFIERS]
LEAST = statistics.MIN_SEEDS  # networks, as seeds for a verdict
_TOGETHER = (
    "Each network counts once, with the mean of its seed-by-seed differences; intervals are over networks, not seeds. "
    "The networks share their training images, so no verdict rests on this."
)
_TUNED = " Weights were chosen on ResNet-18 and CIFAR-100 alone."


def together(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row a comparison of two methods of a table of networks, for those that three networks or more have runs of.

    Columns: method, reference; networks: how many have a seed of both; above: of how many the difference is positive;
    delta, ci_low, ci_high, p_value: the mean over networks, in percentage points, with its 95 % t interval and
    sign-flip test.
    """
    accuracies = {
        (cell.model, cell.method): report.by_seed(cell, cell.metric, store) for cell in table.cells(profile, seeds)
    }
    rows = []
    for method, reference in COMPARISONS:
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


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """What the networks of Table 1 say together, and how far they fit; none in smoke, or of fewer than three."""
    table = TABLES["table1_cifar100"]
    frame = together(table, profile, seeds, store)
    if profile == "smoke" or frame.empty:
        return []
    said = [
        f"{_compared(row)} {_difference(row)}, above in {row.above} of {row.networks}" for row in frame.itertuples()
    ]
    opening = "The networks of Table 1 that both methods have runs of, together"
    return [f"{opening}: {'; '.join(said)}. {_note(profile)}", *_fit(table, profile, seeds, store)]


def shown(study: Session) -> HTML:
    """All networks of this table together, a row a comparison; nothing in smoke, or of fewer than three networks."""
    frame = together(study.table, study.profile, study.seeds, study.store)
    if study.profile == "smoke" or frame.empty:
        return HTML("")
    headings = ("networks that both have runs of, together", "above in", "mean difference [95 % CI over networks]", "p")
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{escape(_compared(row))}</th><td class="number">{row.above} of {row.networks}</td>'
        f'<td class="number">{_difference(row)}</td><td class="number">{row.p_value:.3f}</td></tr>'
        for row in frame.itertuples()
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    notes = [_note(study.profile), *_fit(study.table, study.profile, study.seeds, study.store)]
    below = f"<figcaption>{''.join(f'<p>{escape(note)}</p>' for note in notes)}</figcaption>"
    return HTML(f'<figure class="table">{formats.scrolling(table, headings[0])}{below}</figure>')


def _fit(table: Table, profile: str, seeds: Seeds, store: Store) -> list[str]:
    """The training loss of each network at the end, under the baseline and CDS, and what it says of the gains there."""
    cells = {(cell.model, cell.method): cell for cell in table.cells(profile, seeds)}
    ends: dict[str, tuple[float, float]] = {}
    for model, method in cells:
        if method == CDS:
            ours, reference = (last_epoch(cells[model, name], LOSS, store) for name in (CDS, BASELINE))
            if common := ours.keys() & reference.keys():
                ends[model] = tuple(sum(end[seed] for seed in common) / len(common) for end in (reference, ours))
    if not ends:
        return []
    said = ", ".join(f"{naming.name_of(model)} {baseline:.2f} and {cds:.2f}" for model, (baseline, cds) in ends.items())
    lower = [naming.name_of(model) for model, (baseline, cds) in ends.items() if cds < baseline]
    meaning = (
        f"With CDS {listed(lower)} fit the training images better than without: there it goes with a faster fit, which "
        "is not the regularisation that the paper argues for."
        if lower
        else "In none does CDS end lower, as in the paper."
    )
    return [f"Training cross-entropy in the last epoch, baseline and CDS: {said}. {meaning}"]


def _note(profile: str) -> str:
    return _TOGETHER + (_TUNED if profile == "mini" else "")


def _compared(row: Any) -> str:
    """`CDS against DSN`, `DSN against the baseline`"""
    reference = "the baseline" if row.reference == BASELINE else naming.method_name(row.reference)
    return f"{naming.method_name(row.method)} against {reference}"


def _difference(row: Any) -> str:
    return formats.difference(row.delta, row.ci_low, row.ci_high)
