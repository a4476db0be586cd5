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
from cds_lib.findings.comparisons import ABOVE, BELOW, FEW, OPEN
from cds_lib.reporting import formats, naming, report
from cds_lib.study import statistics
from cds_lib.study.grids import Cell
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tuning import VALIDATION
from cds_lib.text import counted, listed

if TYPE_CHECKING:
    from cds_lib.session import Session

SWITCH = "baseline_two_views"
# What the interval of a difference to the control means.
_CDS = {
    ABOVE: "CDS is above what the second view alone gives.",
    BELOW: "the second view alone gives more.",
    OPEN: "the two are not told apart.",
}
_CONTRASTIVE = {
    ABOVE: "the contrastive losses add to what two views give.",
    BELOW: "the contrastive losses take away from what two views give.",
    OPEN: "whether the contrastive losses add to what two views give cannot be told.",
}
_HINT = (
    "no more than a hint that the contrastive losses add to what two views give, since no interval is corrected for a "
    "second try."
)
_CONTROL = (
    "A control that is not in the paper, the baseline with the cross-entropy of two augmented views (CDS sees two as "
    "well), has a test accuracy of {control}."
)
# A form of CDS, what is said of it before its difference to the control, and what that difference means.
_BOTH = "CDS with the cross-entropy of both views, as the control has it,"
_FORMS = (
    ("cds", "CDS minus the control:", _CDS),
    ("cds_two_ce_views", f"{_BOTH} has a test accuracy of {{mean}}. Minus the control:", _CONTRASTIVE),
    (
        "cds_two_ce_views_weight_tenth",
        f"{_BOTH} and with a tenth of the contrastive weight{{note}} has a test accuracy of {{mean}}. Minus the "
        "control:",
        _CONTRASTIVE,
    ),
)
# In the miniature this one was added when the test accuracies of the one before it were known.
_SECOND_TRY = ("mini", "cds_two_ce_views_weight_tenth")
_NOTE = ", a second try made after the first test results were known,"
# What the validation images say: of a hint of the test images, else by what those say and what these do.
_OF_A_HINT = {ABOVE: "support for the hint.", OPEN: "no support for the hint.", BELOW: "the opposite of the hint."}
_AGREEMENT = {
    (ABOVE, ABOVE): "above the control there too.",
    (BELOW, BELOW): "below the control there too.",
    (OPEN, OPEN): "not told apart there either.",
    (ABOVE, OPEN): "not told apart there, which does not support the test images.",
    (BELOW, OPEN): "not told apart there, which does not support the test images.",
    (OPEN, ABOVE): "above the control there, which the test images leave open.",
    (OPEN, BELOW): "below the control there, which the test images leave open.",
    (ABOVE, BELOW): "below the control there, the opposite of the test images.",
    (BELOW, ABOVE): "above the control there, the opposite of the test images.",
}


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """What every control says; none in smoke, or without a seed that a control and CDS have trained."""
    return [*two_views(profile, seeds, store), *as_many_steps(profile, seeds, store)[:1]]


def two_views(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against the baseline of two views, an item a form of CDS, then that against the methods of Table 1."""
    if profile == "smoke":
        return []
    cells = comparisons.headline_cells(profile, seeds)
    control = _accuracies(cells[SWITCH], store)
    said = []
    for row, opening, meanings in _FORMS:
        values = _accuracies(cells[row], store)
        if values.keys() & control.keys():
            again = (profile, row) == _SECOND_TRY
            found, difference = comparisons.compare(values, control)
            meaning = _HINT if again and found == ABOVE else meanings.get(found, f"{comparisons.DECIDE_NOTHING}.")
            text = f"{opening.format(mean=_mean(values), note=_NOTE if again else '')} {difference}: {meaning}"
            text += _may_be_the_views(row, found, values, cells, store)
            said.append(text + _on_validation_images(cells[row], cells[SWITCH], found, again, store))
    if not said:
        return []
    said[0] = f"{_CONTROL.format(control=_mean(control))} {said[0]}"
    return [*said, *_against_one_view(cells, control, store)]


def _may_be_the_views(
    row: str, found: str, values: Mapping[int, float], cells: Mapping[str, Cell], store: Store
) -> str:
    """Of CDS itself: where it gains over the baseline and not over the control, whose the gain may be."""
    gain = statistics.paired_difference(values, _accuracies(cells["baseline"], store))
    if row == "cds" and found in (OPEN, BELOW) and comparisons.outcome(gain) == ABOVE:
        return " What CDS gains over the baseline may come from the second view."
    return ""


def _on_validation_images(cell: Cell, control: Cell, on_test: str, is_second_try: bool, store: Store) -> str:
    """The same difference on the images that the runs held back, and whether it agrees; "" where there are none, or
    where the test images decide nothing."""
    values, reference = (comparisons.measured(each, VALIDATION, store) for each in (cell, control))
    if on_test == FEW or not values.keys() & reference.keys():
        return ""
    found, difference = comparisons.compare(values, reference)
    if found == FEW:
        meaning = f"{comparisons.DECIDE_NOTHING}."
    elif is_second_try and on_test == ABOVE:
        meaning = _OF_A_HINT[found]
    else:
        meaning = _AGREEMENT[on_test, found]
    return f" On their {cell.specs[0].budget.val_size:,} validation images: {difference}: {meaning}"


def _against_one_view(cells: Mapping[str, Cell], control: Mapping[int, float], store: Store) -> list[str]:
    """The control against the other methods of Table 1, in one item; none if none of them was run."""
    differences, below = [], []
    for row in comparisons.CLASSIFIERS:
        values = _accuracies(cells[row], store)
        if values.keys() & control.keys():
            found = statistics.paired_difference(control, values)
            on_validation = statistics.paired_difference(
                *(comparisons.measured(cells[name], VALIDATION, store) for name in (SWITCH, row))
            )
            more = f"; validation {comparisons.interval(on_validation)}" if on_validation.n else ""
            name = naming.method_name(row)
            differences.append(f"{name} {comparisons.interval(found)} (n = {found.n}{more})")
            below += [name] if comparisons.outcome(found) == ABOVE else []
    if not differences:
        return []
    text = f"The other methods see one view, as the baseline does. The control minus them: {', '.join(differences)}."
    cds = statistics.paired_difference(_accuracies(cells["cds"], store), control)
    if below and comparisons.outcome(cds) in (OPEN, BELOW):
        text += f" What CDS gains over {listed(below)} may come from the second view as well."
    return [text]


def as_many_steps(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS without labels against the baseline of as many steps: who is ahead how often, then a sentence a data set."""
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
            outcomes.append(comparisons.outcome(difference))
    decided = [outcome for outcome in outcomes if outcome != FEW]
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


def _told_apart(outcomes: list[str]) -> str:
    """In how many cells with seeds enough CDS without labels is above or below the baseline of as many steps."""
    cells = f"{counted(len(outcomes), 'cell')} (data set and share of labels) with {statistics.MIN_SEEDS} seeds or more"
    above, below = outcomes.count(ABOVE), outcomes.count(BELOW)
    if len(outcomes) == 1 and not above and not below:
        return f"In the {cells.removeprefix('1 ')}, CDS without labels and that control cannot be told apart."
    if not above and not below:
        return f"In none of the {cells} can CDS without labels and that control be told apart."
    return (
        f"Of the {cells}, CDS without labels is above that control in {above}, below it in {below}, and not told apart "
        f"from it in {len(outcomes) - above - below}."
    )


def shown(study: Session) -> HTML:
    """What the controls of Table 1 or of few labels say, as a list; nothing where there is nothing to say."""
    say = {"table1_cifar100": two_views, "semi_supervised": as_many_steps}[study.table.name]
    return HTML(formats.bullets(say(study.profile, study.seeds, study.store)))


def _accuracies(cell: Cell, store: Store) -> dict[int, float]:
    return report.by_seed(cell, cell.metric, store)


def _mean(values: Mapping[int, float]) -> str:
    summary = statistics.summarise(list(values.values()))
    return formats.mean_std_n(summary.mean, summary.std, summary.n)
