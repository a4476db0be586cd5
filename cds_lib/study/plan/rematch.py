"""The rematch: do the contrastive losses add anything to a second view? As registered in docs/registration.md.

Five arms are compared at one point: ResNet-18 on CIFAR-100, the miniature. Each arm is tuned with the same effort, on
validation images that no outcome uses. The comparison uses fresh seeds and rules that were fixed before anything ran.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy

from cds_lib.study.plan import protocols, settings
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import METRICS, TOP1, Cell

DATASET, MODEL = "cifar100", "resnet18"
CONTROL, CDS_BOTH = "control", "cds_both"  # the primary pair

# All runs hold back the same validation images, so the images that tuning uses are in no training set and no outcome.
VAL_SEED = 101
VAL_SIZE = {"smoke": 200, "mini": 10_000, "paper": 5_000}
OUTCOME, LOSS, VALIDATION = "unseen_top1_last", "unseen_loss_last", "val_top1_last"
FIT = ("trained_top1_last", "trained_loss_last")  # metrics of the final network on its own training images

GRID_SEED, MORE_SEEDS, FINALISTS = 101, (102, 103, 104, 105), 3
LOOK = 12  # first seeds of the pair; their standard deviation alone decides how many more are trained
SEEDS = tuple(range(6, 25))  # of the pair: the first twelve, and the seven that their standard deviation asked for
OTHER_SEEDS = tuple(range(6, 14))
MOST_SEEDS, HALF_WIDTH = 24, 0.4
MARGIN = 0.8  # points: a quarter of the published +3.39, rounded


@dataclass(frozen=True)
class Arm:
    """An arm. method and options: shared by all its runs; searched: the values of two settings ("lr", "weight_decay" or
    an option of the method), 4 x 3 of them for twelve trials; beyond: values tried after an edge of the grid had won,
    each with all values of the other setting; finalists: indices of the trials that got more seeds after all had run.
    """

    title: str
    method: str
    searched: Mapping[str, Sequence[float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    beyond: Sequence[tuple[str, float]] = ()
    finalists: Sequence[int] = ()


_PLAIN = {"lr": (0.025, 0.05, 0.1, 0.2), "weight_decay": (5e-4, 1e-3, 2e-3)}

ARMS = {
    CONTROL: Arm(
        "control: cross-entropy of both views",
        "baseline",
        _PLAIN,
        {"views": 2},
        (("weight_decay", 4e-3), ("weight_decay", 8e-3)),
        finalists=(14, 13, 5),
    ),
    CDS_BOTH: Arm(
        "CDS, cross-entropy of both views",
        "cds",
        {"weight": (0.03, 0.1, 0.3, 1.0), "lr": (0.025, 0.05, 0.1)},
        {"cross_entropy_views": 2},
        beyond=(("lr", 0.2),),
        finalists=(5, 2, 1),
    ),
    "baseline": Arm(
        "baseline: one view",
        "baseline",
        _PLAIN,
        beyond=(("weight_decay", 4e-3), ("weight_decay", 8e-3)),
        finalists=(13, 8, 16),
    ),
    "cds_released": Arm(
        "CDS, cross-entropy of view 1, as released", "cds", {"weight": (0.3, 1.0, 3.0, 10.0), "lr": (0.025, 0.05, 0.1)}
    ),
    "dsn_two_views": Arm(
        "DSN, two views at every classifier",
        "dsn",
        {"weight": (0.3, 1.0, 3.0, 10.0), "lr": (0.025, 0.05, 0.1)},
        {"views": 2},
    ),
}
# The settings that tuning chose; docs/registration.md records them before they are entered here. Arms with a weight
# have the weight decay of the control, so that CDS at weight 0 is the control.
CHOSEN: dict[str, dict[str, float]] = {
    CONTROL: {"lr": 0.1, "weight_decay": 4e-3},
    CDS_BOTH: {"weight": 0.1, "lr": 0.1, "weight_decay": 4e-3},
}

# Comparisons: (ours, reference).
PRIMARY = (CDS_BOTH, CONTROL)
SECONDARY = (("cds_released", CONTROL), ("dsn_two_views", CONTROL), (CONTROL, "baseline"), (CDS_BOTH, "dsn_two_views"))


def run(profile: str, arm: str, seed: int, **changes: Any) -> RunSpec:
    """Return a run of an arm. changes: values of budget fields and of the method's options."""
    spec = settings.supervised(profile, DATASET, MODEL, ARMS[arm].method, seed)
    budget = replace(spec.budget, val_size=VAL_SIZE[profile], val_seed=VAL_SEED)
    if profile == "mini":
        budget = replace(budget, eval_every=20)
    of_budget = {name: value for name, value in changes.items() if hasattr(budget, name)}
    of_method = {name: value for name, value in changes.items() if name not in of_budget}
    return replace(
        spec, budget=replace(budget, **of_budget), options={**spec.options, **ARMS[arm].options, **of_method}
    )


def final(profile: str, arm: str, **changes: Any) -> RunSpec | None:
    """Return the run of an arm with its tuned settings, these changes and seed 0; None if the arm is not tuned.

    Smoke runs, which only show that everything works, take the first trial of the grid.
    """
    if profile == "smoke":
        chosen = {name: values[0] for name, values in ARMS[arm].searched.items()}
    elif profile != "mini" or arm not in CHOSEN:
        return None
    else:
        chosen = CHOSEN[arm]
    return run(profile, arm, 0, **{**chosen, **changes})


def as_released(profile: str, arm: str) -> RunSpec:
    """Return the run as released, for the paper's author: its schedule, Cutout and weight, 16 pixels, 5,000 images."""
    if profile == "smoke":
        return run(profile, arm, 0)
    published = protocols.budget("paper", "cifar", MODEL)
    names = ("epochs", "lr", "weight_decay", "schedule", "milestones", "warmup_epochs", "cutout")
    weight = {"weight": 0.1} if ARMS[arm].method == "cds" else {}
    return run(profile, arm, 0, **{name: getattr(published, name) for name in names}, **weight)


def arm_cell(
    profile: str,
    run: RunSpec | None,
    seeds: tuple[int, ...],
    method: str,
    setting: str,
    metric: str = TOP1,
    source: str = METRICS,
) -> Cell:
    """Return a row that is compared with the control of its setting. Smoke has one seed, to show that it works."""
    reference = (DATASET, MODEL, CONTROL, setting) if method != CONTROL else None
    seeds = seeds if profile != "smoke" else (0,)
    return Cell(DATASET, MODEL, method, setting, metric, run, seeds, reference=reference, source=source)


def trials(arm: str) -> list[dict[str, float]]:
    """Return the trials of an arm: the grid of searched values, first setting outermost, then those beyond the grid."""
    tried = {name: list(values) for name, values in ARMS[arm].searched.items()}
    first, second = tried
    found = [{first: one, second: other} for one in tried[first] for other in tried[second]]
    for name, value in ARMS[arm].beyond:
        other = second if name == first else first
        found += [{name: value, other: each} for each in tried[other]]
        tried[name].append(value)
    fixed = {} if "weight_decay" in ARMS[arm].searched else {"weight_decay": CHOSEN[CONTROL]["weight_decay"]}
    return [trial | fixed for trial in found]


def finalists(scores: Sequence[float]) -> list[int]:
    """Return the indices of the trials with the highest validation accuracy on the grid's seed, best first. Of equal
    trials the earlier comes first."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:FINALISTS]


def seeds_needed(differences: Sequence[float]) -> int:
    """Return how many seeds bring the half-width of the 95 % t interval down to HALF_WIDTH at the standard deviation of
    these differences: at least as many as given, at most MOST_SEEDS. The mean of the differences is never used."""
    deviation = np.std(differences, ddof=1)
    for n in range(len(differences), MOST_SEEDS):
        if scipy.stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n) <= HALF_WIDTH:
            return n
    return MOST_SEEDS


def decide(differences: Sequence[float], margin: float | None = MARGIN) -> tuple[str, ...]:
    """Return what the paired differences `ours - reference` decide, where more is better; several decisions may hold.

    "adds": the 95 % t interval of the mean lies above 0. "harms": it lies below 0. "nothing that matters": the 90 % t
    interval lies within ± margin (two one-sided tests at 5 %). ("undecided",) if none holds. Needs two or more values.
    """
    found = scipy.stats.ttest_1samp(differences, 0.0)
    wide, narrow = found.confidence_interval(0.95), found.confidence_interval(0.9)
    decided = {
        "adds": wide.low > 0,
        "harms": wide.high < 0,
        "nothing that matters": margin is not None and -margin < narrow.low and narrow.high < margin,
    }
    return tuple(name for name, holds in decided.items() if holds) or ("undecided",)
