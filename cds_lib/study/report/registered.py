"""What was registered, computed: the decisions of the rematch and the slopes of the ladder (docs/registration.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from cds_lib.study import statistics
from cds_lib.study.ladder import CONFIRMATORY, RUNGS, SEEDS
from cds_lib.study.rematch import CDS_BOTH, CONTROL, LOSS, OUTCOME, PRIMARY, SECONDARY, decide
from cds_lib.study.report.frame import by_seed
from cds_lib.study.table import TOP1

_TEST = ["n", "difference", "low", "high", "low_90", "high_90", "p", "p_sign_flip"]


def decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """The registered comparisons, the primary one first, of the `results` of the table `rematch`.

    Returns:
        ours, reference; n (pairs of seeds); difference, low, high (95 % t interval, in points of top-1 on all images
        that no training used), low_90, high_90; p (t test), p_holm (of the four secondary ones together), p_sign_flip;
        accuracy, loss: what `decide` says of either.
    """
    rows = []
    for ours, reference in (PRIMARY, *SECONDARY):
        points, losses = ([*_gain(frame, "rematch", metric, ours, reference).values()] for metric in (OUTCOME, LOSS))
        decided = {"accuracy": decide(points), "loss": decide([-loss for loss in losses], margin=None)}
        said = {what: ", ".join(words) for what, words in decided.items()}
        rows.append({"ours": ours, "reference": reference, **_tested(points), **said})
    found = pd.DataFrame(rows)
    secondary = (found.index > 0) & found["p"].notna()
    found.loc[secondary, "p_holm"] = statistics.holm(list(found.loc[secondary, "p"]))
    return found[["ours", "reference", *_TEST[:-1], "p_holm", "p_sign_flip", "accuracy", "loss"]]


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """How the difference of CDS and the control, in official test top-1, grows with each doubling of a factor: of each
    seed the least-squares slope over the rungs, of the `results` of the table `ladder`.

    Returns:
        factor; n (seeds with every rung); difference (points a doubling), low, high, low_90, high_90, p, p_sign_flip;
        decision: grows, shrinks, undecided or not run.
    """
    rows = []
    for factor in CONFIRMATORY:
        rungs = [rung for rung in RUNGS if rung.factor == factor and rung.seeds == SEEDS]
        gains = [_gain(frame, rung.setting, TOP1, CDS_BOTH, CONTROL) for rung in rungs]
        seeds = sorted(set.intersection(*map(set, gains)))
        doublings = np.log2([rung.value for rung in rungs])
        each = [float(np.polyfit(doublings, [gain[seed] for gain in gains], 1)[0]) for seed in seeds]
        rows.append({"factor": factor, **_tested(each), "decision": _direction(each)})
    return pd.DataFrame(rows)


def _direction(values: Sequence[float]) -> str:
    low, high = statistics.t_interval(values)
    return "not run" if len(values) < 2 else "grows" if low > 0 else "shrinks" if high < 0 else "undecided"


def _gain(frame: pd.DataFrame, setting: str, metric: str, ours: str, reference: str) -> dict[int, float]:
    """Seed -> `ours - reference`, of the seeds that both have, in their order."""
    rows = frame[(frame["setting"] == setting) & (frame["metric"] == metric)]
    one, other = (by_seed(rows[rows["method"] == arm]) for arm in (ours, reference))
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def _tested(values: Sequence[float]) -> dict[str, float]:
    """The mean of one value a seed with its intervals and tests; NaN where there are too few."""
    found = statistics.paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    row = dict.fromkeys(_TEST, np.nan) | {"n": found.n}
    if found.n < 2:
        return row | ({"difference": found.delta} if found.n else {})
    test = stats.ttest_1samp(values, 0.0)
    narrow = test.confidence_interval(0.9)
    ends = {"low": found.ci_low, "high": found.ci_high, "low_90": narrow.low, "high_90": narrow.high}
    return row | ends | {"difference": found.delta, "p": test.pvalue, "p_sign_flip": found.p_sign_flip}
