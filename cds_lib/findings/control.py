"""Controls that the paper has not: baselines that see as much as CDS does.

CDS differs from the baseline in its losses and in its second view. The switch `baseline_two_views` has the second view
alone: the cross-entropy of both, at about twice the cost. The switch `cds_two_ce_views` adds the contrastive losses to
that. With few labels CDS takes more steps than a baseline on the labelled images; `baseline_matched` takes as many.

Where runs held validation images back, the same difference is taken on those as well: the seeds of the tables chose
nothing by them, whereas a form of CDS may have been tried because of test accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from IPython.display import HTML

from cds_lib.findings import comparisons
from cds_lib.findings.comparisons import ABOVE, BASELINE, BELOW, CLASSIFIERS, FEW, OPEN
from cds_lib.reporting import formats, html, naming, report
from cds_lib.reporting.grid import Grid
from cds_lib.study import statistics
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.table import Cell
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.tuning import VALIDATION
from cds_lib.text import counted

if TYPE_CHECKING:
    from cds_lib.session import Session

SWITCH = "baseline_two_views"
# Rows of the grid; in the miniature the last form of CDS was added when the test results of the one before were known.
_FORMS = ("cds", "cds_two_ce_views", "cds_two_ce_views_weight_tenth")
_SECOND_TRY = ("mini", "cds_two_ce_views_weight_tenth")
_NOTES = (
    "The control is not in the paper: the baseline with the cross-entropy of two augmented views, since CDS sees two "
    "as well. Baseline, DSN, DKS and DHM see one. No verdict rests on these differences, and no interval is corrected.",
    "Second try: added when the test results of the form above it were known, so its test interval is no more than a "
    "hint. Validation images chose nothing.",
)


def two_views(profile: str, seeds: Seeds, store: Store) -> list[Grid]:
    """Forms of CDS and the methods of Table 1 against the control, on test images and on those that the same runs held
    back; none in smoke, or where the control has no seed in common with any."""
    if profile == "smoke":
        return []
    cells = comparisons.headline_cells(profile, seeds)
    rows = []
    for row in (*_FORMS, BASELINE, *CLASSIFIERS):
        if (difference := _minus_control(cells, row, cells[row].metric, store)) != formats.EMPTY:
            again = " (second try)" if (profile, row) == _SECOND_TRY else ""
            on_validation = _minus_control(cells, row, VALIDATION, store)
            rows.append((naming.method_name(row) + again, _mean(cells[row], store), difference, on_validation))
    if not rows:
        return []
    first = (f"{naming.method_name(SWITCH)} (control)", _mean(cells[SWITCH], store), formats.EMPTY, formats.EMPTY)
    images = f"{cells[SWITCH].specs[0].budget.val_size:,} validation images"
    headings = ("test top-1: mean ± std (n)", "minus the control [95 % CI]", f"the same on the {images}")
    notes = _NOTES if any(name.endswith("(second try)") for name, *_ in rows) else _NOTES[:1]
    return [Grid("CIFAR-100, ResNet-18", headings, (first, *rows), notes)]


def _minus_control(cells: Mapping[str, Cell], row: str, metric: str, store: Store) -> str:
    found = statistics.paired_difference(*(report.by_seed(cells[name], metric, store) for name in (row, SWITCH)))
    return f"{comparisons.interval(found)} (n = {found.n})" if found.n else formats.EMPTY


def in_short(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against the control of two views, and what that means for its gain; none in smoke or without both."""
    if profile == "smoke":
        return []
    cells = comparisons.headline_cells(profile, seeds)
    cds, baseline, control = (_accuracies(cells[row], store) for row in ("cds", BASELINE, SWITCH))
    if not cds.keys() & control.keys():
        return []
    found, difference = comparisons.compare(cds, control)
    gains = comparisons.outcome(statistics.paired_difference(cds, baseline)) == ABOVE
    meaning = {
        ABOVE: ": CDS gains more than a second view alone.",
        FEW: f": {comparisons.DECIDE_NOTHING}.",
        OPEN: ": not distinguishable.",
        BELOW: ": CDS gains less than a second view alone.",
    }[found]
    if gains and found in (OPEN, BELOW):
        meaning += " So these runs do not show that the contrastive losses cause the gain."
    return [
        "A control that is not in the paper, the baseline with the cross-entropy of two views (CDS sees two as well) "
        f"and no contrastive loss, has a top-1 of {_mean(cells[SWITCH], store)}. CDS minus it {difference}{meaning}"
    ]


def as_many_steps(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS (SimCLR loss) against the baseline of as many steps: who is ahead how often, then a sentence a data set."""
    if profile == "smoke":
        return []
    accuracies = {
        (cell.dataset, cell.setting, cell.method): _accuracies(cell, store)
        for cell in TABLES["semi_supervised"].cells(profile, seeds)
    }
    found: dict[str, list[str]] = {}  # data set -> its differences in words
    outcomes = []
    for (dataset, setting, method), values in accuracies.items():
        matched = accuracies[dataset, setting, "baseline_matched"]
        if method == "cds_simclr" and values.keys() & matched.keys():
            difference = statistics.paired_difference(values, matched)
            text = f"{naming.name_of(setting)} {comparisons.interval(difference)} (n = {difference.n})"
            found.setdefault(dataset, []).append(text)
            outcomes.append((comparisons.outcome(difference), difference.n))
    decided = [(outcome, n) for outcome, n in outcomes if outcome != FEW]
    if not decided:
        return []
    return [
        "With few labels the baseline of the claims takes a fraction of the steps that CDS takes; a control takes as "
        f"many. {_told_apart(decided)}",
        *(
            f"{naming.name_of(dataset)}, CDS against the baseline of as many steps: {', '.join(differences)}."
            for dataset, differences in found.items()
        ),
    ]


def _told_apart(decided: list[tuple[str, int]]) -> str:
    """In how many cells with seeds enough CDS (SimCLR loss) is above or below the baseline of as many steps."""
    outcomes, seeds = zip(*decided, strict=True)
    n = " to ".join(map(str, sorted({min(seeds), max(seeds)})))
    cells = f"{counted(len(outcomes), 'cell')} (data set and share of labels) with {statistics.MIN_SEEDS} seeds or more"
    cells += f" (n = {n})"
    above, below = outcomes.count(ABOVE), outcomes.count(BELOW)
    if len(outcomes) == 1 and not above and not below:
        return f"In the {cells.removeprefix('1 ')}, CDS (SimCLR loss) and that control are not distinguishable."
    if not above and not below:
        return f"In none of the {cells} are CDS (SimCLR loss) and that control distinguishable."
    return (
        f"Of the {cells}, CDS (SimCLR loss) is above that control in {above}, below it in {below}, and not "
        f"distinguishable from it in {len(outcomes) - above - below}."
    )


def shown(study: Session) -> HTML:
    """The grid of the control of two views."""
    return HTML("".join(grid.html() for grid in two_views(study.profile, study.seeds, study.store)))


def shown_steps(study: Session) -> HTML:
    """What the control of as many steps says, as a list; nothing where there is nothing to say."""
    return HTML(html.bullets(as_many_steps(study.profile, study.seeds, study.store)))


def _accuracies(cell: Cell, store: Store) -> dict[int, float]:
    return report.by_seed(cell, cell.metric, store)


def _mean(cell: Cell, store: Store) -> str:
    summary = statistics.summarise(list(_accuracies(cell, store).values()))
    return formats.mean_std_n(summary.mean, summary.std, summary.n)
