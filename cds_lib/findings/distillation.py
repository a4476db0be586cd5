"""What the pages of distillation show besides the views of every table: the teachers, distilled CDS against
the other rows, and who was held back by its own term."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from IPython.display import HTML
from markupsafe import Markup

from cds_lib.findings import comparisons
from cds_lib.findings.comparisons import ABOVE, BELOW, FEW, OPEN
from cds_lib.reporting import formats, html, naming, report
from cds_lib.study import settings, statistics
from cds_lib.study.catalogue import DISTILLATION
from cds_lib.study.spec import RunSpec
from cds_lib.study.statistics import Difference
from cds_lib.study.table import TOP1, Cell

if TYPE_CHECKING:
    from cds_lib.session import Session

# What the interval of distilled CDS minus CDS without a teacher means. The two may differ in the weight of the
# contrastive loss as well, so it says nothing of the teacher alone.
_OF_A_TEACHER = {
    ABOVE: "with a teacher, and its own loss weights, CDS is above",
    BELOW: "with a teacher, and its own loss weights, CDS is below",
    OPEN: "the two cannot be told apart",
    FEW: comparisons.DECIDE_NOTHING,
}
_LESS_WELL = (
    "Less accurate than the student alone, and less well fitted to the training labels, so that the method's own term, "
    "at its weight, may be what is in the way:"
)
# Those whose cross-entropy has weight 1, as the baseline's: what they log of it can be compared.
_WHOLE_CROSS_ENTROPY = ("at", "rkd", "sp", "cc", "crd")


def teachers(study: Session) -> HTML:
    """The accuracy of every teacher beside that of the student alone, and a warning where it is not the better one."""
    pairs: dict[tuple[str, ...], dict[str, tuple[RunSpec, RunSpec]]] = {}
    for cell in study.table.cells(study.profile, study.seeds):
        for spec in cell.specs:
            if spec.teacher:
                teacher = spec.lineage[0]
                alone = settings.student(study.profile, spec.dataset, spec.model, "baseline", spec.seed)
                key = (_sized(teacher), teacher.method, _sized(alone), alone.method)
                pairs.setdefault(key, {})[teacher.id] = (teacher, alone)
    lines = []
    for names, specs in pairs.items():
        measured = [_top1(study, runs) for runs in zip(*specs.values(), strict=True)]
        weak = None not in measured and measured[0][0] <= measured[1][0]
        warning = "no better than its student, which has little to learn from it"
        end = Markup(": ") + html.element("strong", warning) + "." if weak else "."
        said = [
            f"{model} ({naming.method_name(method)}) {_accuracy(value)}"
            for model, method, value in ((*names[:2], measured[0]), (*names[2:], measured[1]))
        ]
        lines.append(f"Teacher {said[0]}, student alone {said[1]}" + end)
    return HTML(html.bullets(lines))


def _sized(spec: RunSpec) -> str:
    """A network by name, with its width where that is reduced: `ResNet-18 × 0.25`."""
    name = naming.name_of(spec.model)
    return name if spec.budget.width == 1 else f"{name} × {spec.budget.width:g}"


def _top1(study: Session, runs: Iterable[RunSpec]) -> tuple[float, int] | None:
    values = [study.store.metric(run.id, "test_top1_last") for run in runs if study.store.is_done(run.id)]
    return (sum(values) / len(values), len(values)) if values else None


def _accuracy(value: tuple[float, int] | None) -> str:
    return "not run" if value is None else f"{value[0]:.2f} % (n = {value[1]})"


def held_back(study: Session) -> HTML:
    """Methods that are less accurate than the student alone and fit the training labels less well, so that their own
    term, at its weight, may be what is in the way. Nothing in smoke, or where there is none."""
    cells = {(cell.key, cell.metric): cell for cell in study.table.cells(study.profile, study.seeds)}
    lines = []
    for cell in cells.values():
        if cell.method not in _WHOLE_CROSS_ENTROPY or cell.metric != "test_top1_last" or study.profile == "smoke":
            continue
        alone = cells[cell.reference, cell.metric]
        accuracy = statistics.paired_difference(*(report.by_seed(c, c.metric, study.store) for c in (cell, alone)))
        fit = [
            {
                spec.seed: study.store.history(spec.id)["train_cross_entropy"].iloc[-1]
                for spec in c.specs
                if study.store.is_done(spec.id)
            }
            for c in (cell, alone)
        ]
        ours, theirs = ([found[seed] for seed in sorted(fit[0].keys() & fit[1].keys())] for found in fit)
        if ours and accuracy.delta < 0 and sum(ours) > sum(theirs):
            lines.append(
                f"{naming.group_title([cell.model])}, {naming.method_name(cell.method)}: "
                f"{formats.signed(accuracy.delta)} points, training cross-entropy {sum(ours) / len(ours):.2f} against "
                f"{sum(theirs) / len(theirs):.2f} (n = {len(ours)})."
            )
    return HTML(html.paragraphs([_LESS_WELL]) + html.bullets(lines) if lines else "")


def against_others(study: Session) -> HTML:
    """Whether distilled CDS gives a better student than the other distillers and than CDS without a teacher, and what
    else sets it apart; of a table with one network. Nothing in smoke, or where it was not run."""
    if study.profile == "smoke":
        return HTML("")
    cells = {cell.method: cell for cell in study.table.cells(study.profile, study.seeds)}
    accuracies = {method: report.by_seed(cell, cell.metric, study.store) for method, cell in cells.items()}
    found = {
        method: statistics.paired_difference(accuracies["cds_kd"], values)
        for method, values in accuracies.items()
        if method in ("cds", *DISTILLATION) and method != "cds_kd" and values.keys() & accuracies["cds_kd"].keys()
    }
    texts = {method: f"{comparisons.interval(each)} (n = {each.n})" for method, each in found.items()}
    distillers = {method: each for method, each in found.items() if method != "cds"}
    said = []
    if distillers:
        listed = ", ".join(f"{naming.method_name(method)} {texts[method]}" for method in distillers)
        said.append(f"CDS, distilled, minus each of the other distillers: {listed}. {_counted(distillers)}")
    if "cds" in found:
        meaning = _OF_A_TEACHER[comparisons.outcome(found["cds"])]
        said.append(f"CDS, distilled, minus CDS without a teacher: {texts['cds']}: {meaning}.")
    if said:
        said.append(
            "These are differences between whole recipes: distilled CDS sees two views of every image, and its teacher "
            f"was itself trained with CDS{_other_teacher(study, cells['cds_kd'], cells['kd'])}."
        )
    return HTML(html.bullets(said))


def _counted(found: Mapping[str, Difference]) -> str:
    """From how many distilled CDS is told apart by the interval, and the names of those from which it is not."""
    outcomes = {naming.method_name(method): comparisons.outcome(each) for method, each in found.items()}
    decided = [outcome for outcome in outcomes.values() if outcome != FEW]
    if not decided:
        return f"{comparisons.DECIDE_NOTHING.capitalize()}."
    open_ = [name for name, outcome in outcomes.items() if outcome == OPEN]
    names = f" ({', '.join(open_)})" if open_ else ""
    return (
        f"Of the {len(decided)} with seeds enough it is above {decided.count(ABOVE)}, below {decided.count(BELOW)} and "
        f"not told apart from {len(open_)}{names}; no interval is corrected for their number."
    )


def _other_teacher(study: Session, ours: Cell, others: Cell) -> str:
    """By how much the first teachers are more accurate than the second, seed by seed; "" as long as none is trained."""
    found = statistics.paired_difference(
        *(
            {
                spec.seed: study.store.metric(spec.lineage[0].id, TOP1)
                for spec in cell.specs
                if study.store.is_done(spec.lineage[0].id)
            }
            for cell in (ours, others)
        )
    )
    if not found.n:
        return ""
    return f", which differs from the teacher of the others by {comparisons.interval(found)} points (n = {found.n})"
