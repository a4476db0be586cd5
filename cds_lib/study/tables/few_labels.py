"""CDS without labels at smaller weights (docs/registration.md), because the search had ended at its lower edge."""

from dataclasses import replace

from cds_lib.study.plan import settings
from cds_lib.study.plan.protocols import HEADLINE_SEEDS
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import TOP1, Cell, Table, cell
from cds_lib.study.tables.tuning import DATASET, candidate_cell, row_name, words

METHOD, CONTROL = "cds_simclr", "baseline_matched"
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0)  # the last three are those of the table `tuning`
PERCENTS = (10, 20, 30, 40)
CHOSEN: float | None = None  # the best weight on validation images


def smaller(profile: str, percent: int) -> RunSpec | None:
    """Return CDS without labels at the chosen weight; None before it is chosen. Smoke runs take the smallest weight."""
    weight = WEIGHTS[0] if profile == "smoke" else CHOSEN if profile == "mini" else None
    spec = settings.semi_supervised(profile, DATASET, METHOD, percent)
    return weight and replace(spec, options={**spec.options, "weight": weight})


def cells(profile: str) -> list[Cell]:
    """Return a validation row per weight, then for each share of labels the control and CDS at the chosen weight."""
    found = [candidate_cell(profile, METHOD, weight, "few_labels_tuning") for weight in WEIGHTS]
    for percent in PERCENTS:
        control = settings.semi_supervised(profile, DATASET, CONTROL, percent)
        seeds, place = HEADLINE_SEEDS[profile], (control.dataset, control.model)
        found.append(cell(control, seeds, method=CONTROL, reference=None))
        run, reference = smaller(profile, percent), (*place, CONTROL, control.setting)
        found.append(Cell(*place, "cds_simclr_smaller", control.setting, TOP1, run, seeds, reference=reference))
    return found


TABLE = Table(
    title="Few labels, smaller weights",
    topic="CDS without labels, ResNet-18 on CIFAR-100",
    question="With a smaller weight, does CDS without labels beat a baseline of as many steps?",
    note="nothing: registered in docs/registration.md",
    build=cells,
    names={row_name(METHOD, weight): words(METHOD, weight) for weight in WEIGHTS}
    | {"few_labels_tuning": "validation", "cds_simclr_smaller": "CDS (SimCLR loss), chosen weight"},
    own_seeds=True,
    official=False,
)
