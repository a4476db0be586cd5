"""Statistics: mean and deviation over seeds, paired differences, and the verdict on one published claim.

Runs that share a seed share the data split, the order of the images and, where shapes agree, the initial weights.
Differences are therefore taken seed by seed, which removes most of the spread between seeds. The rule that turns a
difference into a verdict was fixed before anything was run.

Intervals are t intervals, not bootstrap (BCa) intervals. A cell has three to six seeds, so a resample can only repeat
the same few differences, and BCa intervals are far too narrow. For normal differences, BCa covers the mean in 71 % of
samples of three and in 85 % of samples of six; t covers it in 95 % of both. The t interval assumes that differences are
about normal. The sign-flip test assumes only that they are symmetric; its p value is never below 2 / 2**n for n seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # submodules load on first use, so commands start fast

CONFIDENCE = 0.95
MIN_SEEDS = 3
# Seeds of headline claims: with fewer, a two-sided sign-flip test cannot give p < 0.05.
SIGN_FLIP_SEEDS = 6
# Up to this many differences, all sign patterns are enumerated. Beyond it, 2**16 are drawn from a fixed seed.
ENUMERATED = 20

REPRODUCED = "reproduced"
CONFIRMED = "direction confirmed"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
NOT_RUN = "not run"
NO_CLAIM = "no published claim"
SMOKE = "not meaningful (smoke)"


class Summary(NamedTuple):
    """Mean and sample standard deviation (ddof = 1) over n seeds; mean is None for n = 0, std is None for n < 2."""

    mean: float | None
    std: float | None
    n: int


class Difference(NamedTuple):
    """Mean of the n seed-by-seed differences `ours - reference`, in the unit of the values.

    difference: None when no seed is common. low, high: 95 % t interval of the mean; p: two-sided sign-flip test (never
    below 2 / 2**n); all three are None for n < 2.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Return the mean, sample standard deviation and count of one value per seed."""
    n = len(values)
    mean, std = float(np.mean(values)) if n else None, float(np.std(values, ddof=1)) if n > 1 else None
    return Summary(mean, std, n)


def paired_difference(ours: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Compare two methods by seed; a seed that only one of them has run does not count.

    `ours` and `reference` map a seed to its value. Equal differences at every seed give an interval of width 0.
    """
    return mean_difference([ours[seed] - reference[seed] for seed in sorted(ours.keys() & reference.keys())])


def mean_difference(differences: Sequence[float]) -> Difference:
    """Return the mean of one difference per seed, with its interval and test."""
    n = len(differences)
    delta = float(np.mean(differences)) if n else None
    if n < 2:
        return Difference(delta, None, None, None, n)
    low, high = t_interval(differences)
    return Difference(delta, low, high, sign_flip_p(np.asarray(differences, float)), n)


def sign_flip_p(differences: np.ndarray) -> float:
    """Return the two-sided p value of the sign-flip test: the share of sign patterns with a sum at least as extreme."""
    if len(differences) <= ENUMERATED:
        sums = differences[:1]  # flipping the first sign only negates all sums
        for one in differences[1:]:
            sums = np.concatenate([sums + one, sums - one])
    else:
        sums = np.random.default_rng(0).choice([-1.0, 1.0], (2**16, len(differences))) @ differences
        sums[0] = differences.sum()  # include the observed pattern
    rounding = 1e-9 * np.abs(differences).sum()
    return float(np.mean(~(np.abs(sums) < abs(differences.sum()) - rounding)))  # 1 if a run diverged (NaN)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t interval of the mean, (nan, nan) below two values. Plots use it as `errorbar=t_interval`."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    mean = float(np.mean(values))
    margin = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, df=n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return float(mean - margin), float(mean + margin)


def prediction_interval(found: Summary, m: int) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % prediction interval of the mean of m new seeds, given n seeds: mean ± t std sqrt(1/n + 1/m).
    (None, None) for n < 2."""
    if found.n < 2:
        return None, None
    margin = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, df=found.n - 1) * found.std * math.sqrt(1 / found.n + 1 / m)
    return found.mean - margin, found.mean + margin


def smallest_p(n: int) -> float:
    """Return the smallest p value that the two-sided sign-flip test of n paired differences can give."""
    return min(1.0, 2 / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjustment of the p values of one family, in their order.

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection in the family at most
    alpha, however the tests depend on one another (Holm 1979).
    """
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def verdict(difference: Difference, paper_delta: float | None, profile: str) -> str:
    """Return the verdict on "this method differs from its reference as published".

    `paper_delta` is the published difference in the same unit. Its sign is the paper's direction, so a measure where
    less is better needs no special case. An interval "lies above" it when it is further in that direction. Without a
    published difference, or with one of exactly 0, there is no direction to confirm.
    """
    if difference.n == 0:
        return NOT_RUN
    if profile == "smoke":
        return SMOKE
    if not paper_delta:
        return NO_CLAIM
    if difference.n < MIN_SEEDS:
        return INCONCLUSIVE
    low, high = _in_direction(difference, paper_delta)
    if low > 0:
        return REPRODUCED if profile == "paper" and high >= abs(paper_delta) else CONFIRMED
    return CONTRADICTED if high < 0 else INCONCLUSIVE


def size(found: Difference, published: float | None) -> str:
    """Compare our 95 % interval with the published difference, in the published direction: "less" or "more" if it lies
    below or above, "as published" if it contains the difference but not 0, and "" otherwise or below three seeds."""
    if not published or found.low is None or found.n < MIN_SEEDS:
        return ""
    low, high = _in_direction(found, published)
    if high < abs(published):
        return "less"
    if low > abs(published):
        return "more"
    return "as published" if low > 0 else ""


def _in_direction(found: Difference, published: float) -> tuple[float, float]:
    """Return the interval of a difference, counted in the published direction."""
    return (found.low, found.high) if published > 0 else (-found.high, -found.low)
