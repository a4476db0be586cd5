"""What the pages of distillation show besides the views of every table: the teachers, and who was held back by one."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from IPython.display import HTML

from cds_lib.reporting import formats, naming, report
from cds_lib.study import settings, statistics
from cds_lib.study.spec import RunSpec

if TYPE_CHECKING:
    from cds_lib.session import Session

# Those whose cross-entropy has weight 1, as the baseline's: what they log of it can be compared.
_WHOLE_CROSS_ENTROPY = ("at", "rkd", "sp", "cc", "crd")


def teachers(study: Session) -> HTML:
    """The accuracy of every teacher beside that of the student alone, and a warning where it is not the better one."""
    pairs: dict[tuple[str, ...], dict[str, tuple[RunSpec, RunSpec]]] = {}
    for cell in study.table.cells(study.profile, study.seeds):
        for spec in cell.specs:
            if spec.setting == "distill" and spec.parent:
                teacher = spec.lineage[0]
                alone = settings.student(study.profile, spec.dataset, spec.model, "baseline", spec.seed)
                key = (_sized(teacher), teacher.method, _sized(alone), alone.method)
                pairs.setdefault(key, {})[teacher.id] = (teacher, alone)
    lines = []
    for names, specs in pairs.items():
        measured = [_top1(study, runs) for runs in zip(*specs.values(), strict=True)]
        weak = None not in measured and measured[0][0] <= measured[1][0]
        warning = ": <strong>no better than its student, which has little to learn from it</strong>" if weak else ""
        said = [
            f"{model} ({naming.method_name(method)}) {_accuracy(value)}"
            for model, method, value in ((*names[:2], measured[0]), (*names[2:], measured[1]))
        ]
        lines.append(f"<li>Teacher {escape(said[0])}, student alone {escape(said[1])}{warning}.</li>")
    return HTML(f"<ul>{''.join(lines)}</ul>")


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
                f"<li>{escape(naming.group_title([cell.model]))}, {escape(naming.method_name(cell.method))}: "
                f"{formats.signed(accuracy.delta)} points, training cross-entropy {sum(ours) / len(ours):.2f} against "
                f"{sum(theirs) / len(theirs):.2f} of the student alone (n = {len(ours)}): beside its term, at this "
                "weight, the student fits its training labels less well.</li>"
            )
    return HTML(f"<ul>{''.join(lines)}</ul>" if lines else "")
