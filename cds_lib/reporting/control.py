"""The control that the paper has not: a baseline that sees two views as well, and so costs about twice the baseline.

CDS differs from the baseline in its losses and in its second view. The switch `baseline_two_views` has the second view
alone: the cross-entropy of both.
"""

from __future__ import annotations

from cds_lib.reporting import formats, report
from cds_lib.study import ablations, statistics
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

SWITCH = "baseline_two_views"
_MORE = "CDS gains more than the second view does."
_AS_MUCH = "what CDS gains over the baseline cannot be told here from what a second augmented view gains."
_LESS = "the second view gains more than CDS does."


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against the control, in one sentence; none while a seed that both have trained is missing, or in smoke."""
    cells = {cell.key: cell for cell in TABLES["deviations"].cells(profile, seeds)}
    key = (ablations.CIFAR, ablations.MODEL)
    cds, control = (
        report.by_seed(cell, cell.metric, store)
        for cell in (cells[*key, "cds", "supervised"], cells[*key, SWITCH, "supervised"])
    )
    found = statistics.paired_difference(cds, control)
    if profile == "smoke" or not found.n:
        return []
    low, high = found.ci_low, found.ci_high
    if found.n < statistics.MIN_SEEDS:
        meaning = f"fewer than {statistics.MIN_SEEDS} seeds decide nothing."
    else:
        meaning = _MORE if low > 0 else _LESS if high < 0 else _AS_MUCH
    mean = statistics.summarise(list(control.values()))
    return [
        "A control that is not in the paper – the baseline with the cross-entropy of two views, as many as CDS sees, "
        f"has {formats.mean_std_n(mean.mean, mean.std, mean.n)}; CDS against it: "
        f"{formats.difference(found.delta, low, high)} (n = {found.n}): {meaning}"
    ]
