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

from cds_lib.findings.comparisons import BASELINE, CDS, CLASSIFIERS
from cds_lib.reporting import formats, naming, report
from cds_lib.study import statistics
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.tables import TABLES

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
    """What the networks of Table 1 say together, in one item; none in smoke, or of fewer than three networks."""
    frame = together(TABLES["table1_cifar100"], profile, seeds, store)
    if profile == "smoke" or frame.empty:
        return []
    said = [
        f"{_compared(row)} {_difference(row)}, above in {row.above} of {row.networks}" for row in frame.itertuples()
    ]
    return [f"The networks of Table 1 that both methods have runs of, together: {'; '.join(said)}. {_note(profile)}"]


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
    below = f"<figcaption>{escape(_note(study.profile))}</figcaption>"
    return HTML(f'<figure class="table">{formats.scrolling(table, headings[0])}{below}</figure>')


def _note(profile: str) -> str:
    return _TOGETHER + (_TUNED if profile == "mini" else "")


def _compared(row: Any) -> str:
    """`CDS against DSN`, `DSN against the baseline`"""
    reference = "the baseline" if row.reference == BASELINE else naming.method_name(row.reference)
    return f"{naming.method_name(row.method)} against {reference}"


def _difference(row: Any) -> str:
    return formats.difference(row.delta, row.ci_low, row.ci_high)
