"""Statistics against scipy's paired t test, hand-enumerated sign flips, and the verdict rule case by case."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from cds_lib.study import statistics as s


def test_summary_uses_the_sample_standard_deviation():
    assert s.summarise([1.0, 2.0, 6.0]) == s.Summary(3.0, pytest.approx(7**0.5), 3)
    assert s.summarise([4.5]) == s.Summary(4.5, None, 1) and s.summarise([]) == s.Summary(None, None, 0)


@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_interval_is_that_of_the_paired_t_test(n):
    rng = np.random.default_rng(n)
    ours, reference = 60 + rng.normal(size=n), 59 + rng.normal(size=n)
    found = s.paired_difference(dict(enumerate(ours)), dict(enumerate(reference)))
    oracle = stats.ttest_rel(ours, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.difference == pytest.approx((ours - reference).mean()) and found.n == n


@pytest.mark.parametrize("n", [2, 3, 6, 9, 13])
def test_p_value_is_the_share_of_sign_patterns_at_least_as_extreme(n):
    differences = np.random.default_rng(10 + n).normal(0.4, 1, size=n)
    found = s.mean_difference(differences)
    flipped = [abs(np.mean(differences * signs)) for signs in itertools.product((-1, 1), repeat=n)]
    observed = abs(differences.mean())
    assert found.p == pytest.approx(np.mean([value >= observed - 1e-12 for value in flipped]))
    tied = s.mean_difference([0.1, 0.2, -0.3, 0.0])  # sums that differ only by rounding count as equal
    assert tied.p == 1.0


def test_only_common_seeds_count_and_are_matched_by_seed_not_by_position():
    found = s.paired_difference({2: 12.0, 0: 5.0, 7: 100.0}, {0: 4.0, 1: -50.0, 2: 9.0})
    assert (found.difference, found.n) == (2.0, 2)
    assert s.paired_difference({0: 3.0}, {0: 1.0, 1: 1.0}) == s.Difference(2.0, None, None, None, 1)
    assert s.paired_difference({0: 3.0}, {1: 1.0}) == s.Difference(None, None, None, None, 0)


def test_equal_differences_give_an_interval_of_width_zero_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, nothing = s.mean_difference([0.5] * 4), s.mean_difference([0.0] * 4)
    assert (found.difference, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 2 / 2**4)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 0.0, 1.0)
    assert s.verdict(nothing, 1.0, "paper") == s.INCONCLUSIVE


def test_a_diverged_run_reaches_the_verdict_as_inconclusive():
    found = s.paired_difference({0: float("nan"), 1: 2.0, 2: 2.0}, {0: 1.0, 1: 1.0, 2: 1.0})
    assert s.verdict(found, 1.0, "mini") == s.INCONCLUSIVE


def test_of_many_seeds_patterns_are_drawn():
    values = np.random.default_rng(0).normal(0.4, 1, size=s.ENUMERATED + 1)
    drawn = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=9999, rng=1)
    assert s.mean_difference(values).p == pytest.approx(drawn.pvalue, rel=0.15)
    assert s.mean_difference(values) == s.mean_difference(values)


def test_the_smallest_p_value_is_what_the_test_gives_for_equal_signs():
    for n in range(2, 8):
        assert s.smallest_p(n) == pytest.approx(s.mean_difference(np.arange(1.0, n + 1)).p)
    assert s.smallest_p(1) == s.smallest_p(0) == 1.0
    assert s.smallest_p(s.SIGN_FLIP_SEEDS) < 0.05 < s.smallest_p(s.SIGN_FLIP_SEEDS - 1)


@pytest.mark.parametrize(
    "p_values", [[], [0.2], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.5], [0.25, 0.03125, 1.0, 0.03125]]
)
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """An independent definition: the largest Bonferroni p value over all families that contain the hypothesis."""
    families = [f for size in range(1, len(p_values) + 1) for f in itertools.combinations(range(len(p_values)), size)]
    bonferroni = {f: min(1.0, len(f) * min(p_values[i] for i in f)) for f in families}
    expected = [max(p for f, p in bonferroni.items() if index in f) for index in range(len(p_values))]
    assert s.holm(p_values) == pytest.approx(expected)


def difference(low: float, high: float, n: int = 6) -> s.Difference:
    return s.Difference((low + high) / 2, low, high, 0.03, n)


@pytest.mark.parametrize(
    ("low", "high", "paper", "profile", "expected"),
    [
        (1.0, 3.0, 2.0, "paper", s.REPRODUCED),  # the interval contains the published difference
        (3.0, 4.0, 2.0, "paper", s.REPRODUCED),  # it lies above the published difference
        (2.0, 4.0, 4.0, "paper", s.REPRODUCED),  # it touches the published difference
        (0.5, 1.5, 2.0, "paper", s.CONFIRMED),  # right sign, smaller than published
        (1.0, 3.0, 2.0, "mini", s.CONFIRMED),  # only the paper's own protocol can reproduce
        (-3.0, -1.0, 2.0, "paper", s.CONTRADICTED),
        (-3.0, -1.0, 2.0, "mini", s.CONTRADICTED),
        (-1.0, 3.0, 2.0, "paper", s.INCONCLUSIVE),
        (0.0, 3.0, 2.0, "paper", s.INCONCLUSIVE),  # 0 on the edge is contained
        (-3.0, -1.0, -2.0, "paper", s.REPRODUCED),  # lower is better
        (-1.5, -0.5, -2.0, "paper", s.CONFIRMED),
        (-4.0, -3.0, -2.0, "paper", s.REPRODUCED),
        (1.0, 3.0, -2.0, "paper", s.CONTRADICTED),
        (1.0, 3.0, None, "paper", s.NO_CLAIM),
        (1.0, 3.0, 0.0, "paper", s.NO_CLAIM),
        (1.0, 3.0, 2.0, "smoke", s.SMOKE),
    ],
)
def test_verdict_rule(low, high, paper, profile, expected):
    assert s.verdict(difference(low, high), paper, profile) == expected


def test_fewer_than_three_seeds_are_inconclusive_and_none_is_not_run():
    assert s.verdict(difference(1.0, 3.0, n=2), 2.0, "paper") == s.INCONCLUSIVE
    assert s.verdict(difference(1.0, 3.0, n=3), 2.0, "paper") == s.REPRODUCED
    assert s.verdict(s.paired_difference({0: 1.0}, {0: 0.0}), 2.0, "paper") == s.INCONCLUSIVE
    for profile in ("smoke", "mini", "paper"):
        assert s.verdict(s.paired_difference({}, {}), 2.0, profile) == s.NOT_RUN
