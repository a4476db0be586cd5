"""Compute what docs/registration.md registered: the decisions of the rematch and the slopes of the ladder."""

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

_TEST = ["n", "difference", "low", "high", "low_90", "high_90", "p", "p_sign_flip"]
_one_side = partial(decide, margin=None)


def decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the registered comparisons, the primary one first, from the `results` of the table `rematch`.

    Returns:
        ours, reference; n (pairs of seeds); difference, low, high (95 % t interval), in points of top-1 on the test
        images and the training images that the run did not use; low_90, high_90 (90 % t interval); p (t test), p_holm
        (over the four secondary comparisons), p_sign_flip; accuracy, loss: what `decide` says, once all registered
        seeds have run. A secondary comparison is decided by accuracy alone, and only if Holm's p is at most 5 %.
    """
    pairs = (PRIMARY, *SECONDARY)
    points, losses = ([_gains(frame, ["rematch"], m, *pair)["rematch"] for pair in pairs] for m in (OUTCOME, LOSS))
    found = _tests(points)
    found["ours"], found["reference"] = zip(*pairs, strict=True)
    found["p_holm"] = [np.nan, *_holm(found["p"][1:])]
    first = points[0][:LOOK].dropna()
    wanted = seeds_needed(first) if len(first) == LOOK else LOOK
    secondary = [_said(_one_side, each, p=p) for each, p in zip(points[1:], found["p_holm"][1:], strict=True)]
    found["accuracy"] = [_said(decide, points[0], wanted), *secondary]
    found["loss"] = [_said(_one_side, -losses[0], wanted), *[""] * len(secondary)]
    return found[["ours", "reference", *_TEST[:-1], "p_holm", "p_sign_flip", "accuracy", "loss"]]


def image_sampling(frame: pd.DataFrame, store: Store, among: np.ndarray | None = None) -> pd.DataFrame:
    """Return the registered comparisons from the `results` of `rematch`, with the images treated as a sample as well.

    The unseen images of all seeds add their standard error by the infinitesimal jackknife, which is what a bootstrap of
    the images estimates (Efron 1982).

    among: indices of training images. Of the training images that a run did not use, only these count; None: all.

    Returns:
        ours, reference; n (pairs of seeds); difference, in points; low, high: 95 % t interval of both samples together;
        se_seeds, se_images; only_ours, only_reference: images that only one of the two has right, mean over seeds;
        mcnemar: number of seeds in which McNemar's exact test finds the two different at 5 %.
    """
    finished = frame[(frame["setting"] == "rematch") & (frame["metric"] == OUTCOME) & frame["finished"]]
    runs, rows = finished.pivot(index="seed", columns="method", values="run"), []
    for ours, reference in (PRIMARY, *SECONDARY):
        pairs = runs.reindex(columns=[ours, reference]).dropna().to_numpy()
        rows.append({"ours": ours, "reference": reference, "n": len(pairs), **_of_images(pairs, store, among)})
    columns = ["ours", "reference", "n", "difference", "low", "high", "se_seeds", "se_images"]
    return pd.DataFrame(rows, columns=[*columns, "only_ours", "only_reference", "mcnemar"])


def untouched(frame: pd.DataFrame, store: Store) -> np.ndarray:
    """Return the indices of the training images that no finished run of these `results` used."""
    unused = [store.correct(run)["unused_index"] for run in frame.loc[frame["finished"], "run"].unique()]
    return reduce(np.intersect1d, unused) if unused else np.array([], int)


def _of_images(pairs: np.ndarray, store: Store, among: np.ndarray | None) -> dict[str, float]:
    n = len(pairs)
    if n < 2:
        return {}
    # One row per image, one column per pair: which of the two is right, NaN if they were not scored on the image.
    found = pd.DataFrame({pair[0]: _contrast(*map(store.correct, pair), among) for pair in pairs})
    each = found.mean()
    pull = ((found - each) / found.count()).sum(axis=1) / n  # influence of each image on the mean over seeds
    se_seeds, se_images = each.sem(), np.sqrt((pull**2).sum())
    half = stats.t.ppf(0.975, n - 1) * np.hypot(se_seeds, se_images)
    ends = {"difference": each.mean(), "low": each.mean() - half, "high": each.mean() + half}
    points = {name: 100 * value for name, value in (ends | {"se_seeds": se_seeds, "se_images": se_images}).items()}
    ours, theirs = (found > 0).sum(), (found < 0).sum()
    told = [a + b > 0 and stats.binomtest(int(a), int(a + b)).pvalue < 0.05 for a, b in zip(ours, theirs, strict=True)]
    return points | {"only_ours": ours.mean(), "only_reference": theirs.mean(), "mcnemar": sum(told)}


def _contrast(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray], among: np.ndarray | None) -> pd.Series:
    """Return which of the two is right (+1, 0 or -1) on each image that both were scored on, test images first."""
    assert np.array_equal(ours["unused_index"], reference["unused_index"])  # both have the split of the seed
    tests, unused = len(ours["test"]), ours["unused_index"]
    one, other = (np.concatenate([arm["test"], arm["unused"]]).astype(int) for arm in (ours, reference))
    found = pd.Series(one - other, [*range(tests), *(tests + unused)])
    return found if among is None else found.drop(tests + np.setdiff1d(unused, among))


def slopes(frame: pd.DataFrame, primary: float) -> pd.DataFrame:
    """Return how the difference CDS minus control, in official test top-1, grows per doubling of a factor: the
    least-squares slope of each seed over the rungs, from the `results` of the table `ladder`.

    primary: p value of the primary comparison of the rematch, which is in the same family; NaN before it has run.

    Returns:
        factor; n (seeds with every rung); difference (points per doubling), low, high, low_90, high_90, p, p_holm,
        p_sign_flip; decision: grows, shrinks, undecided, not complete or not run.
    """
    gathered, begun = [], []
    for factor in CONFIRMATORY:
        rungs = [rung for rung in RUNGS if rung.factor == factor and rung.seeds == SEEDS]
        gains = _gains(frame, [rung.setting for rung in rungs], TOP1, CDS_BOTH, CONTROL)
        doublings = np.log2([rung.value for rung in rungs])
        x = doublings - doublings.mean()
        gathered.append(gains @ x / (x @ x))
        begun.append(gains.notna().any().sum() > 1)  # the rematch has run the miniature's own rung
    found = _tests(gathered).assign(factor=CONFIRMATORY)
    found["p_holm"] = _holm([primary, *found["p"]])[1:]
    said = [
        _said(_one_side, each, begun=some, p=p) for each, some, p in zip(gathered, begun, found["p_holm"], strict=True)
    ]
    return found.assign(decision=said).replace({"decision": {"adds": "grows", "harms": "shrinks"}})


def few_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return CDS without labels minus the baseline of as many steps, for all shares of labels together: the mean of
    each seed over the shares, from the `results` of the table `few_labels`.

    Returns:
        One row: n (seeds with every share); difference, low, high, low_90, high_90, p, p_sign_flip, decision.
    """
    settings = [f"semi_{percent}" for percent in PERCENTS]
    each = _gains(frame, settings, TOP1, "cds_simclr_smaller", "baseline_matched").mean(axis=1, skipna=False)
    return _tests([each]).assign(decision=_said(_one_side, each))


def _said(
    rule: Callable[[Sequence[float]], tuple[str, ...]],
    planned: pd.Series,
    wanted: int = 0,
    begun: bool = False,
    p: float = 0.0,
) -> str:
    """Return what the rule decides from one value per planned seed (NaN if it has not run). While values are missing
    nothing is decided, because every look would be another test. wanted: minimum number of values; begun: whether
    parts of some values have run; p: the adjusted p value; above 5 % nothing is decided."""
    values = planned.dropna().to_numpy()
    if len(values) < 2:
        return "not complete" if begun else "not run"
    if len(values) < max(len(planned), wanted):
        return "not complete"
    return ", ".join(rule(values)) if p <= 0.05 else "undecided"


def _holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p values. NaN (not run) stays NaN and counts as 1: the family keeps its planned size."""
    p = np.asarray(p_values, float)
    return np.where(np.isnan(p), p, statistics.holm(np.nan_to_num(p, nan=1.0)))


def _gains(frame: pd.DataFrame, settings: list[str], metric: str, ours: str, reference: str) -> pd.DataFrame:
    """Return `ours - reference`: a row per seed that all settings plan, a column per setting; NaN if not run."""
    arms = frame["method"].isin([ours, reference])
    rows = frame[arms & frame["setting"].isin(settings) & (frame["metric"] == metric)]
    planned = rows.groupby("seed").size() == 2 * len(settings)
    values = rows.pivot(index="seed", columns=["method", "setting"], values="value").loc[planned[planned].index]
    one, other = (values.reindex(columns=[(arm, setting) for setting in settings]) for arm in (ours, reference))
    return one.set_axis(settings, axis=1) - other.set_axis(settings, axis=1)


def _tests(samples: Sequence[pd.Series]) -> pd.DataFrame:
    """Return one row per sample of one value per seed (NaN if it has not run): the mean with its intervals and tests,
    NaN if there are too few values."""
    rows = []
    for sample in samples:
        values = sample.dropna().to_numpy()
        found = statistics.mean_difference(values)
        row = found._asdict() | {"p": None, "p_sign_flip": found.p}
        if found.n > 1:
            test = stats.ttest_1samp(values, 0.0)
            row["low_90"], row["high_90"] = test.confidence_interval(0.9)
            row["p"] = test.pvalue
        rows.append(row)
    return pd.DataFrame(rows, columns=_TEST).astype(dict.fromkeys(_TEST[1:], "float64"))
