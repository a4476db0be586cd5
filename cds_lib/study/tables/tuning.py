"""The search for hyper-parameters: the same effort for every method, judged on validation images alone.

The runs train ResNet-18 on CIFAR-100 under the profile's protocol, with a seed that no table of results has and with
validation images held back. The learning rate is chosen for the baseline and used by every method. For the others the
weight of their additional loss is searched. CDS with the SimCLR loss is searched where it is used: on a training set
with a part of the labels. The catalogue holds the chosen values.
"""

from dataclasses import replace

from cds_lib.study.plan import catalogue, settings
from cds_lib.study.plan.rematch import DATASET, MODEL, VAL_SIZE, VALIDATION
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Cell, Table, cell

SEARCHED = {
    "baseline": ("lr", (0.025, 0.05, 0.1)),
    **dict.fromkeys(("dsn", "cds", "dks", "dhm", "cds_simclr"), ("weight", (0.3, 1.0, 3.0))),
}
LABELLED_PERCENT = 20  # in the search of `cds_simclr`
SEED = 100


def default_run(profile: str, method: str, seed: int = 0) -> RunSpec:
    """Return the run of a table whose hyper-parameter is searched."""
    if method == "cds_simclr":
        return settings.semi_supervised(profile, DATASET, method, LABELLED_PERCENT, seed)
    return settings.supervised(profile, DATASET, MODEL, method, seed)


def candidate(profile: str, method: str, value: float) -> RunSpec:
    """Return the run of one candidate. Its seed is its own, so that it shares no run and no split with a table."""
    name, _ = SEARCHED[method]
    spec = default_run(profile, method, SEED)
    budget = replace(spec.budget, val_size=VAL_SIZE[profile])
    if name == "lr":
        return replace(spec, budget=replace(budget, lr=value))
    return replace(spec, budget=budget, options={**spec.options, name: value})


def row_name(method: str, value: float) -> str:
    """Return the name of a candidate's row: `cds_weight_0.3`."""
    return f"{method}_{SEARCHED[method][0]}_{value:g}"


def candidate_cell(profile: str, method: str, value: float, setting: str) -> Cell:
    """Return the row of one candidate."""
    run, name = candidate(profile, method, value), row_name(method, value)
    return cell(run, (SEED,), method=name, setting=setting, metric=VALIDATION, reference=None)


CANDIDATES = [(method, value) for method, (_, values) in SEARCHED.items() for value in values]


def cells(profile: str) -> list[Cell]:
    """Return one group per method and one row per candidate."""
    return [candidate_cell(profile, method, value, f"tuning_{method}") for method, value in CANDIDATES]


def words(method: str, value: float) -> str:
    """Return the display name of a candidate's row: `CDS, weight 0.3`."""
    option = "learning rate" if SEARCHED[method][0] == "lr" else SEARCHED[method][0]
    return f"{catalogue.METHODS[method].title}, {option} {value:g}"


TABLE = Table(
    title="Tuning",
    topic="three candidates per method, ResNet-18 on CIFAR-100, validation images",
    question="Which learning rate, and which weight of every method, does the miniature study train with?",
    note="nothing: how the paper chose its weights is not known",
    build=cells,
    names={row_name(*candidate): words(*candidate) for candidate in CANDIDATES}
    | {f"tuning_{method}": catalogue.METHODS[method].title for method in SEARCHED},
    own_seeds=True,
)
