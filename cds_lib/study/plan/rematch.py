"""The rematch: do the contrastive losses add anything to a second view? As registered in docs/registration.md.

Five arms at one point (ResNet-18 on CIFAR-100, the miniature), each tuned with the same effort on validation images
that no outcome is measured on, then compared on seeds that nothing has used, by rules that stood before anything ran.
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

# All runs hold back the same validation images: those that tuning uses are in no training set and in no outcome.
VAL_SEED = 101
VAL_SIZE = {"smoke": 200, "mini": 10_000, "paper": 5_000}
OUTCOME, LOSS, VALIDATION = "unseen_top1_last", "unseen_loss_last", "val_top1_last"
FIT = ("trained_top1_last", "trained_loss_last")  # of the final network on its own training images

GRID_SEED, MORE_SEEDS, FINALISTS = 101, (102, 103, 104, 105), 3
LOOK = 12  # seeds of the pair; then their deviation alone decides how many more are trained
SEEDS = tuple(range(6, 25))  # of the pair: the twelve, and the seven that the look asked for
OTHER_SEEDS = tuple(range(6, 14))
MOST_SEEDS, HALF_WIDTH = 24, 0.4
MARGIN = 0.8  # points: a quarter of the published +3.39, rounded


@dataclass(frozen=True)
class Arm:
    """method and options: of every run of the arm; searched: the values of its two searched settings, which are "lr",
    "weight_decay" or an option of the method. 4 x 3 values: twelve trials, as long as no edge has won; beyond: values
    that were tried then, each with all values of the other setting; finalists: places of the trials that got more
    seeds, once all have run."""

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
# What tuning chose for an arm; written into docs/registration.md before it stands here. Arms with a weight have the
# weight decay of the control: at weight 0 CDS is then the control.
CHOSEN: dict[str, dict[str, float]] = {
    CONTROL: {"lr": 0.1, "weight_decay": 4e-3},
    CDS_BOTH: {"weight": 0.1, "lr": 0.1, "weight_decay": 4e-3},
}

# Comparisons: (ours, reference).
PRIMARY = (CDS_BOTH, CONTROL)
SECONDARY = (("cds_released", CONTROL), ("dsn_two_views", CONTROL), (CONTROL, "baseline"), (CDS_BOTH, "dsn_two_views"))


def run(profile: str, arm: str, seed: int, **changes: Any) -> RunSpec:
    """A run of an arm with these values of the budget's fields and of its method's options."""
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
    """The run of an arm with what tuning chose for it and these changes, of seed 0; None before it has chosen.

    Smoke runs, which show that everything works, take the first trial of the grid.
    """
    if profile == "smoke":
        chosen = {name: values[0] for name, values in ARMS[arm].searched.items()}
    elif profile != "mini" or arm not in CHOSEN:
        return None
    else:
        chosen = CHOSEN[arm]
    return run(profile, arm, 0, **{**chosen, **changes})


def as_released(profile: str, arm: str) -> RunSpec:
    """The cell for the paper's author: the released schedule, Cutout and weight, of 16 pixels and 5,000 images."""
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
    """A row that is compared with the control of its setting; one seed in smoke, which shows that it works."""
    reference = (DATASET, MODEL, CONTROL, setting) if method != CONTROL else None
    seeds = seeds if profile != "smoke" else (0,)
    return Cell(DATASET, MODEL, method, setting, metric, run, seeds, reference=reference, source=source)


def trials(arm: str) -> list[dict[str, float]]:
    """The combinations of the searched values of an arm, the first setting outermost; then what lies beyond."""
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
    """Places of the trials with the highest validation accuracies with the seed of the grid, best first; of equal ones
    the earlier."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:FINALISTS]


def seeds_needed(differences: Sequence[float]) -> int:
    """How many seeds bring the half-width of the 95 % t interval down to HALF_WIDTH, given the deviation of these:
    at least as many as there are, at most MOST_SEEDS. Looks at the deviation alone, never at the mean."""
    deviation = np.std(differences, ddof=1)
    for n in range(len(differences), MOST_SEEDS):
        if scipy.stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n) <= HALF_WIDTH:
            return n
    return MOST_SEEDS


def decide(differences: Sequence[float], margin: float | None = MARGIN) -> tuple[str, ...]:
    """What the paired differences `ours - reference` decide, where more is better; several may hold.

    "adds": the 95 % t interval of their mean lies above 0; "harms": below. "nothing that matters": the 90 % interval
    lies within ± margin (two one-sided tests at 5 %). ("undecided",) if none holds. It takes two differences or more.
    """
    found = scipy.stats.ttest_1samp(differences, 0.0)
    wide, narrow = found.confidence_interval(0.95), found.confidence_interval(0.9)
    decided = {
        "adds": wide.low > 0,
        "harms": wide.high < 0,
        "nothing that matters": margin is not None and -margin < narrow.low and narrow.high < margin,
    }
    return tuple(name for name, holds in decided.items() if holds) or ("undecided",)
