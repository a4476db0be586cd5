"""What was registered, computed: the decisions of the rematch and the slopes of the ladder (docs/registration.md)."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
import pandas as pd
from scipy import stats

from cds_lib.study import statistics
from cds_lib.study.plan.rematch import CDS_BOTH, CONTROL, LOOK, LOSS, OUTCOME, PRIMARY, SECONDARY, decide, seeds_needed
from cds_lib.study.plan.table import TOP1
from cds_lib.study.store import Store
from cds_lib.study.tables.few_labels import PERCENTS
from cds_lib.study.tables.ladder import CONFIRMATORY, RUNGS, SEEDS

Rule = Callable[[Sequence[float]], tuple[str, ...]]
_TEST = ["n", "difference", "low", "high", "low_90", "high_90", "p", "p_sign_flip"]


def decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """The registered comparisons, the primary one first, of the `results` of the table `rematch`.

    Returns:
        ours, reference; n (pairs of seeds); difference, low, high (95 % t interval, in points of top-1 on the test
        images and the training images that the run did not use), low_90, high_90; p (t test), p_holm (of the four
        secondary ones together), p_sign_flip; accuracy, loss: what `decide` says of either, once all registered seeds
        have run. Of a secondary one the accuracy alone, and no more than Holm's p allows.
    """
    pairs = (PRIMARY, *SECONDARY)
    points, losses = ([_gains(frame, ["rematch"], m, *pair)["rematch"] for pair in pairs] for m in (OUTCOME, LOSS))
    tested = [_tested(each.dropna()) for each in points]
    p_holm = [np.nan, *_holm([test["p"] for test in tested[1:]])]
    first = points[0][:LOOK].dropna()
    wanted = seeds_needed(first) if len(first) == LOOK else LOOK
    loss_rule = partial(decide, margin=None)
    said = [{"accuracy": _said(decide, points[0], wanted=wanted), "loss": _said(loss_rule, -losses[0], wanted=wanted)}]
    said += [{"accuracy": _said(_under(p, loss_rule), each)} for p, each in zip(p_holm[1:], points[1:], strict=True)]
    rows = [
        {"ours": ours, "reference": reference, **test, "p_holm": p, **words}
        for (ours, reference), test, p, words in zip(pairs, tested, p_holm, said, strict=True)
    ]
    found = pd.DataFrame(rows).fillna({"loss": ""})
    return found[["ours", "reference", *_TEST[:-1], "p_holm", "p_sign_flip", "accuracy", "loss"]]


def image_sampling(frame: pd.DataFrame, store: Store, among: np.ndarray | None = None) -> pd.DataFrame:
    """The registered comparisons of the `results` of the table `rematch`, where the images are a sample as well.

    What the unseen images of all seeds add is their standard error by the infinitesimal jackknife, which is what a
    bootstrap of the images estimates (Efron 1982).

    among: numbers of training images; of those that a run did not use these alone count, None: all.

    Returns:
        ours, reference; n (pairs of seeds); difference, points; low, high: 95 % t interval of both samples together;
        se_seeds, se_images; only_ours, only_reference: images that one of the two alone has right, mean over seeds;
        mcnemar: seeds in which McNemar's exact test finds them different at 5 %.
    """
    finished = frame[(frame["setting"] == "rematch") & (frame["metric"] == OUTCOME) & frame["finished"]]
    runs, rows = finished.pivot(index="seed", columns="method", values="run"), []
    for ours, reference in (PRIMARY, *SECONDARY):
        pairs = runs.reindex(columns=[ours, reference]).dropna().to_numpy()
        rows.append({"ours": ours, "reference": reference, "n": len(pairs), **_of_images(pairs, store, among)})
    columns = ["ours", "reference", "n", "difference", "low", "high", "se_seeds", "se_images"]
    return pd.DataFrame(rows, columns=[*columns, "only_ours", "only_reference", "mcnemar"])


def untouched(frame: pd.DataFrame, store: Store) -> np.ndarray:
    """Numbers of the training images that no finished run of these `results` used."""
    unused = [store.correct(run)["unused_index"] for run in frame.loc[frame["finished"], "run"].unique()]
    return reduce(np.intersect1d, unused) if unused else np.array([], int)


def _of_images(pairs: np.ndarray, store: Store, among: np.ndarray | None) -> dict[str, float]:
    found = [_contrast(store.correct(ours), store.correct(reference), among) for ours, reference in pairs]
    if len(found) < 2:
        return {}
    n = len(found)
    each = np.array([np.mean(contrast) for _, contrast in found])
    pull = np.zeros(max(images.max() for images, _ in found) + 1)  # of each image on the mean over seeds
    for (images, contrast), mean in zip(found, each, strict=True):
        pull[images] += (contrast - mean) / len(images) / n
    se_seeds, se_images = each.std(ddof=1) / np.sqrt(n), np.sqrt(np.sum(pull**2))
    half = stats.t.ppf(0.975, n - 1) * np.hypot(se_seeds, se_images)
    alone = np.array([[(contrast > 0).sum(), (contrast < 0).sum()] for _, contrast in found])
    told = [stats.binomtest(int(a), int(a + b)).pvalue < 0.05 if a + b else False for a, b in alone]
    ends = {"difference": each.mean(), "low": each.mean() - half, "high": each.mean() + half}
    points = {name: 100 * value for name, value in (ends | {"se_seeds": se_seeds, "se_images": se_images}).items()}
    return points | dict(zip(("only_ours", "only_reference"), alone.mean(0), strict=True)) | {"mcnemar": sum(told)}


def _contrast(
    ours: dict[str, np.ndarray], reference: dict[str, np.ndarray], among: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images that both were scored on, test images first, and +1, 0 or -1: which of the two is right."""
    assert np.array_equal(ours["unused_index"], reference["unused_index"])  # a seed has one split
    images = np.concatenate([np.arange(len(ours["test"])), len(ours["test"]) + ours["unused_index"]])
    one, other = (np.concatenate([arm["test"], arm["unused"]]).astype(int) for arm in (ours, reference))
    kept = np.ones(len(images), bool)
    if among is not None:
        kept[len(ours["test"]) :] = np.isin(ours["unused_index"], among)
    return images[kept], (one - other)[kept]


def slopes(frame: pd.DataFrame, primary: float) -> pd.DataFrame:
    """How the difference of CDS and the control, in official test top-1, grows with each doubling of a factor: of each
    seed the least-squares slope over the rungs, of the `results` of the table `ladder`.

    primary: the p value of the primary comparison of the rematch, which is in the same family; NaN before it has run.

    Returns:
        factor; n (seeds with every rung); difference (points a doubling), low, high, low_90, high_90, p, p_holm,
        p_sign_flip; decision: grows, shrinks, undecided, not complete or not run.
    """
    gathered, begun = [], []
    for factor in CONFIRMATORY:
        rungs = [rung for rung in RUNGS if rung.factor == factor and rung.seeds == SEEDS]
        gains = _gains(frame, [rung.setting for rung in rungs], TOP1, CDS_BOTH, CONTROL)
        doublings = np.log2([rung.value for rung in rungs])
        x = doublings - doublings.mean()
        gathered.append(pd.Series(gains.to_numpy() @ x / (x @ x)))
        begun.append(gains.notna().any().sum() > 1)  # the miniature's own rung is that of the rematch
    tested = [_tested(each.dropna()) for each in gathered]
    p_holm = _holm([primary, *(test["p"] for test in tested)])[1:]
    said = [_said(_under(p, _direction), *each) for p, *each in zip(p_holm, gathered, begun, strict=True)]
    return pd.DataFrame(tested).assign(factor=CONFIRMATORY, p_holm=p_holm, decision=said)


def few_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """CDS without labels minus the baseline of as many steps, all shares of labels together: of each seed the mean over
    the shares, of the `results` of the table `few_labels`.

    Returns:
        One row: n (seeds with every share); difference, low, high, low_90, high_90, p, p_sign_flip, decision.
    """
    settings = [f"semi_{percent}" for percent in PERCENTS]
    each = _gains(frame, settings, TOP1, "cds_simclr_smaller", "baseline_matched").mean(axis=1, skipna=False)
    return pd.DataFrame([{**_tested(each.dropna()), "decision": _said(partial(decide, margin=None), each)}])


def _said(rule: Rule, planned: pd.Series, begun: bool = False, wanted: int = 0) -> str:
    """What the rule decides from one value per planned seed, NaN where it has not run. While values are missing it
    decides nothing: every look would be another test. wanted: how many values there must be at least; begun: whether
    parts of some values have run."""
    values = planned.dropna().to_numpy()
    if len(values) < 2:
        return "not complete" if begun else "not run"
    return "not complete" if len(values) < max(len(planned), wanted) else ", ".join(rule(values))


def _under(p_holm: float, rule: Rule) -> Rule:
    """The rule, which says "undecided" where the adjusted p value is above 5 %."""
    return rule if p_holm <= 0.05 else lambda values: ("undecided",)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values. NaN (not run) stays NaN and counts as 1: the family is as large as it was planned."""
    adjusted = statistics.holm([1.0 if np.isnan(p) else p for p in p_values])
    return [np.nan if np.isnan(p) else one for p, one in zip(p_values, adjusted, strict=True)]


def _direction(values: Sequence[float]) -> tuple[str, ...]:
    low, high = statistics.t_interval(values)
    return ("grows" if low > 0 else "shrinks" if high < 0 else "undecided",)


def _gains(frame: pd.DataFrame, settings: list[str], metric: str, ours: str, reference: str) -> pd.DataFrame:
    """`ours - reference`: a row per seed that is planned in all settings, a column per setting; NaN if not run."""
    arms = frame["method"].isin([ours, reference])
    rows = frame[arms & frame["setting"].isin(settings) & (frame["metric"] == metric)]
    planned = rows.groupby("seed").size() == 2 * len(settings)
    values = rows.pivot(index="seed", columns=["method", "setting"], values="value").loc[planned[planned].index]
    one, other = (values.reindex(columns=[(arm, setting) for setting in settings]) for arm in (ours, reference))
    return one.set_axis(settings, axis=1) - other.set_axis(settings, axis=1)


def _tested(values: Sequence[float]) -> dict[str, float]:
    """The mean of one value a seed with its intervals and tests; NaN where there are too few."""
    found = statistics.mean_difference(values)
    row = dict.fromkeys(_TEST, np.nan) | {"n": found.n}
    if found.n < 2:
        return row | ({"difference": found.difference} if found.n else {})
    test = stats.ttest_1samp(values, 0.0)
    narrow = test.confidence_interval(0.9)
    ends = {"low": found.low, "high": found.high, "low_90": narrow.low, "high_90": narrow.high}
    return row | ends | {"difference": found.difference, "p": test.pvalue, "p_sign_flip": found.p}
