"""Controls that the paper has not: baselines that see as much as CDS does.

CDS differs from the baseline in its losses and in its second view. The switch `baseline_two_views` has the second view
alone: the cross-entropy of both, at about twice the cost. The switch `cds_two_ce_views` adds the contrastive losses to
that. With few labels CDS takes more steps than a baseline on the labelled images; `baseline_matched` takes as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from IPython.display import HTML

from cds_lib.reporting import formats, naming, report
from cds_lib.study import ablations, statistics
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

if TYPE_CHECKING:
    from cds_lib.session import Session

SWITCH = "baseline_two_views"
_FEW = f"fewer than {statistics.MIN_SEEDS} seeds decide nothing."
# What it means that the interval is above 0, below 0, or contains 0.
_CDS = (
    "CDS gains more than the second view does.",
    "the second view gains more than CDS does.",
    "what CDS gains over the baseline cannot be told here from what a second augmented view gains.",
)
_CONTRASTIVE = (
    "the contrastive losses add to what two views give.",
    "the contrastive losses take away from what two views give.",
    "whether the contrastive losses add to what two views give cannot be told.",
)
# A form of CDS, what is said of it (its mean, its difference to the control), and what the interval means.
_FORMS = (
    (
        "cds",
        "A control that is not in the paper – the baseline with the cross-entropy of two views, as many as CDS sees, "
        "has {control}; CDS against it: {difference}",
        _CDS,
    ),
    (
        "cds_two_ce_views",
        "CDS with the cross-entropy of both views has {mean}; against the same control: {difference}",
        _CONTRASTIVE,
    ),
    (
        "cds_two_ce_views_weight_tenth",
        "That with a tenth of the contrastive weight, tried after the test accuracies of the first were seen, has "
        "{mean}; against the same control: {difference}",
        (
            "above, with the second of two weights, which no interval is corrected for: a hint that the contrastive "
            "losses add to what two views give, and no confirmation.",
            *_CONTRASTIVE[1:],
        ),
    ),
)


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """What every control says; none in smoke, or without a seed that a control and CDS have trained."""
    return [*two_views(profile, seeds, store), *as_many_steps(profile, seeds, store)[:1]]


def two_views(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against the baseline of two views, a sentence a form of CDS, then that against the methods of Table 1."""
    if profile == "smoke":
        return []
    cells = [cell for name in ("table1_cifar100", "deviations") for cell in TABLES[name].cells(profile, seeds)]
    by_key = {cell.key: cell for cell in cells}

    def accuracies(row: str) -> dict[int, float]:
        cell = by_key[ablations.CIFAR, ablations.MODEL, row, "supervised"]
        return report.by_seed(cell, cell.metric, store)

    control, said = accuracies(SWITCH), []
    for row, sentence, meanings in _FORMS:
        values = accuracies(row)
        if values.keys() & control.keys():
            difference = _compared(values, control, meanings)
            said.append(sentence.format(control=_mean(control), mean=_mean(values), difference=difference))
    others = {row: accuracies(row) for row in ("dsn", "dks", "dhm")}
    differences = [
        f"{naming.method_name(row)} {_difference(control, values)}"
        for row, values in others.items()
        if values.keys() & control.keys()
    ]
    if said and differences:
        said.append(
            f"The other methods see one view, as the baseline does; the control against them: {', '.join(differences)}."
        )
        cds = statistics.paired_difference(accuracies("cds"), control)
        if not (cds.n >= statistics.MIN_SEEDS and cds.ci_low > 0):
            said[-1] += " What CDS gains over them may be the second view's as well."
    return said


def as_many_steps(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS without labels against the baseline of as many steps: who is ahead how often, then a sentence a data set."""
    if profile == "smoke":
        return []
    accuracies = {
        (cell.dataset, cell.setting, cell.method): report.by_seed(cell, cell.metric, store)
        for cell in TABLES["semi_supervised"].cells(profile, seeds)
    }
    found: dict[str, list[str]] = {}  # data set -> its differences in words
    decided = []
    for (dataset, setting, method), values in accuracies.items():
        matched = accuracies[dataset, setting, "baseline_matched"]
        if method == "cds_simclr" and values.keys() & matched.keys():
            found.setdefault(dataset, []).append(f"{naming.name_of(setting)} {_difference(values, matched)}")
            difference = statistics.paired_difference(values, matched)
            decided += [difference] if difference.n >= statistics.MIN_SEEDS else []
    if not decided:
        return []
    above, below = sum(each.ci_low > 0 for each in decided), sum(each.ci_high < 0 for each in decided)
    return [
        "With few labels the baseline of the claims takes a fraction of the steps that CDS takes. Against one that "
        f"takes as many, CDS without labels is above in {above}, below in {below} and not told apart in "
        f"{len(decided) - above - below} of the {len(decided)} cells (data set and share of labels) with "
        f"{statistics.MIN_SEEDS} seeds or more.",
        *(
            f"{naming.name_of(dataset)}, CDS against the baseline of as many steps: {', '.join(differences)}."
            for dataset, differences in found.items()
        ),
    ]


def shown(study: Session) -> HTML:
    """What the controls of Table 1 or of few labels say, as a list; nothing where there is nothing to say."""
    say = {"table1_cifar100": two_views, "semi_supervised": as_many_steps}[study.table.name]
    return HTML(formats.bullets(say(study.profile, study.seeds, study.store)))


def _mean(values: Mapping[int, float]) -> str:
    summary = statistics.summarise(list(values.values()))
    return formats.mean_std_n(summary.mean, summary.std, summary.n)


def _compared(values: Mapping[int, float], control: Mapping[int, float], meanings: tuple[str, str, str]) -> str:
    """`+1.00 [+0.50, +1.50] (n = 3, p = 0.250): what that means.`"""
    found = statistics.paired_difference(values, control)
    more, less, unclear = meanings
    if found.n < statistics.MIN_SEEDS:
        meaning = _FEW
    else:
        meaning = more if found.ci_low > 0 else less if found.ci_high < 0 else unclear
    p = "" if found.p_sign_flip is None else f", p = {found.p_sign_flip:.3f}"
    return f"{formats.difference(found.delta, found.ci_low, found.ci_high)} (n = {found.n}{p}): {meaning}"


def _difference(values: Mapping[int, float], reference: Mapping[int, float]) -> str:
    """`+1.00 [+0.50, +1.50] (n = 3)`"""
    found = statistics.paired_difference(values, reference)
    return f"{formats.difference(found.delta, found.ci_low, found.ci_high)} (n = {found.n})"
