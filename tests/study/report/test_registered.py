"""The decisions of the rematch and the slopes of the ladder, for known differences."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cds_lib.study.plan.rematch import CDS_BOTH, CONTROL, LOSS, OUTCOME, PRIMARY, SECONDARY
from cds_lib.study.plan.table import TOP1
from cds_lib.study.report.frame import results, tidy
from cds_lib.study.report.registered import decisions, few_labels, image_sampling, slopes, untouched
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.ladder import RUNGS


def rows(method, setting, metric, values):
    same = {"method": method, "setting": setting, "metric": metric}
    return [{**same, "seed": seed, "value": value} for seed, value in values.items()]


def test_every_registered_comparison_is_decided_from_pairs_of_seeds():
    drawn = np.random.default_rng(0)
    arms = {*PRIMARY, *(arm for pair in SECONDARY for arm in pair)}
    points = {arm: dict(enumerate(drawn.normal(30 + (arm == CDS_BOTH), 0.2, 12), 6)) for arm in sorted(arms)}
    del points["baseline"][6]
    frame = []
    for arm, values in points.items():
        frame += rows(arm, "rematch", OUTCOME, values)
        frame += rows(arm, "rematch", LOSS, {seed: 3 - value / 100 for seed, value in values.items()})
    frame += rows(CONTROL, "rematch_dose", OUTCOME, dict.fromkeys(range(6, 14), 99.0))  # another part of the table
    found = decisions(pd.DataFrame(frame)).set_index(["ours", "reference"])
    assert list(found.index) == [PRIMARY, *SECONDARY]
    for ours, reference in found.index:
        both = sorted(points[ours].keys() & points[reference].keys())
        test = stats.ttest_rel(*([points[arm][seed] for seed in both] for arm in (ours, reference)))
        row = found.loc[(ours, reference)]
        assert row["n"] == len(both) == (11 if "baseline" in (ours, reference) else 12)
        assert row["p"] == pytest.approx(test.pvalue)
        interval = test.confidence_interval(0.9)
        assert (row["low_90"], row["high_90"]) == pytest.approx((interval.low, interval.high))
    assert found.loc[PRIMARY, "accuracy"] == found.loc[PRIMARY, "loss"] == "adds"  # lower loss is better
    assert np.isnan(found.loc[PRIMARY, "p_holm"])
    secondary = found.loc[list(SECONDARY)]
    assert secondary["p_holm"].min() == pytest.approx(4 * secondary["p"].min())
    assert set(secondary["accuracy"]) <= {"adds", "harms", "undecided"} and set(secondary["loss"]) == {""}


def pair(gains, seeds=range(6, 18)):
    """Return the rows of the primary pair with these differences."""
    frame = []
    for metric, sign in ((OUTCOME, 1), (LOSS, -1)):
        frame += rows(CONTROL, "rematch", metric, dict.fromkeys(seeds, 30.0))
        frame += rows(CDS_BOTH, "rematch", metric, {s: 30 + sign * g for s, g in zip(seeds, gains, strict=True)})
    return pd.DataFrame(frame)


def test_a_part_of_the_registered_seeds_decides_nothing():
    frame = pair([2.0, 3.0] * 6)
    assert set(decisions(frame).iloc[0][["accuracy", "loss"]]) == {"adds"}
    frame.loc[(frame["seed"] == 17) & (frame["method"] == CDS_BOTH), "value"] = None  # planned, but not run
    row = decisions(frame).iloc[0]
    assert (row["n"], row["accuracy"], row["loss"]) == (11, "not complete", "not complete")


def test_the_pair_is_decided_when_the_seeds_that_its_deviation_asks_for_have_run():
    wide = 5 + 0.8 * np.tile([-1.0, 1.0], 6)  # requires 20 seeds (test_rematch.py)
    assert decisions(pair(wide)).iloc[0]["accuracy"] == "not complete"
    more = [*wide, *np.repeat(30.0, 8)]  # only the first twelve set the number of seeds
    assert decisions(pair(more, range(6, 26))).iloc[0]["accuracy"] == "adds"
    assert decisions(pair(more[:19], range(6, 25))).iloc[0]["accuracy"] == "not complete"


def test_secondary_comparisons_are_a_family_of_four_of_which_those_that_have_not_run_are_members():
    gain = np.tile([-1.0, 1.0], 4) + 0.95  # p = 0.037 without correction
    base = {seed: 20.0 for seed in range(6, 14)}
    frame = rows("baseline", "rematch", OUTCOME, base)
    frame += rows(CONTROL, "rematch", OUTCOME, {s: 20 + g for s, g in zip(base, gain, strict=True)})
    row = decisions(pd.DataFrame(frame)).set_index(["ours", "reference"]).loc[(CONTROL, "baseline")]
    assert row["p"] < 0.05 and row["low"] > 0 and row["p_holm"] == pytest.approx(4 * row["p"])
    assert row["accuracy"] == "undecided"


def scored(seeds, test=400, train=1000, unused=300):
    """Return runs of two correlated arms and a store of their correct images. One arm is right on 40 % of the images,
    the other on some more."""
    drawn, runs, frame = np.random.default_rng(1), {}, []
    hard = drawn.random(test + train)
    for seed in seeds:
        index = np.sort(drawn.choice(train, unused, replace=False))
        images = np.concatenate([np.arange(test), test + index])
        for arm, ease in ((CONTROL, 0.4), (CDS_BOTH, 0.45)):
            right = hard[images] + drawn.normal(0, 0.1, len(images)) < ease
            runs[f"{arm}{seed}"] = {"test": right[:test], "unused": right[test:], "unused_index": index}
            row = {"method": arm, "setting": "rematch", "metric": OUTCOME, "seed": seed, "finished": True}
            frame.append({**row, "run": f"{arm}{seed}", "value": 100 * right.mean()})
    return pd.DataFrame(frame), SimpleNamespace(correct=runs.__getitem__)


def test_images_that_are_a_sample_widen_the_interval_by_what_a_bootstrap_of_them_finds():
    frame, store = scored(range(6, 12))
    row = image_sampling(frame, store).set_index(["ours", "reference"]).loc[PRIMARY]
    values = frame.pivot(index="seed", columns="method", values="value")
    gain = values[CDS_BOTH] - values[CONTROL]
    assert row["n"] == 6 and row["difference"] == pytest.approx(gain.mean())
    assert row["se_seeds"] == pytest.approx(gain.sem())
    drawn, means = np.random.default_rng(2), []
    for _ in range(400):
        weights, each = np.bincount(drawn.integers(1400, size=1400), minlength=1400), []
        for seed in values.index:
            ours, theirs = (store.correct(f"{arm}{seed}") for arm in PRIMARY)
            images = np.concatenate([np.arange(400), 400 + ours["unused_index"]])
            contrast = np.concatenate([ours[part].astype(int) - theirs[part] for part in ("test", "unused")])
            each.append(100 * np.average(contrast, weights=weights[images]))
        means.append(np.mean(each))
    assert row["se_images"] == pytest.approx(np.std(means), rel=0.12)
    half = stats.t.ppf(0.975, 5) * np.hypot(row["se_seeds"], row["se_images"])
    assert (row["low"], row["high"]) == pytest.approx((gain.mean() - half, gain.mean() + half))
    assert row["only_ours"] - row["only_reference"] == pytest.approx(gain.mean() / 100 * 700)


def test_images_that_the_tuning_was_trained_on_can_be_left_out():
    frame, store = scored(range(6, 10))
    tuning = frame[frame["seed"] < 8]
    kept = untouched(tuning, store)
    assert set(kept) == set.intersection(*(set(store.correct(run)["unused_index"]) for run in tuning["run"]))
    row, each = image_sampling(frame, store, kept).iloc[0], []
    for seed in range(6, 10):
        ours, theirs = (store.correct(f"{arm}{seed}") for arm in PRIMARY)
        among = np.isin(ours["unused_index"], kept)
        right = [np.append(arm["test"], arm["unused"][among]).mean() for arm in (ours, theirs)]
        each.append(100 * (right[0] - right[1]))
    assert row["difference"] == pytest.approx(np.mean(each)) and row["n"] == 4


def test_mcnemar_counts_the_seeds_that_differ_by_more_than_chance():
    frame, store = scored((6, 7))
    same = {"test": np.arange(400) < 200, "unused": np.arange(300) < 100, "unused_index": np.arange(300)}
    more = {**same, "unused": np.arange(300) < 120}  # 20 images against 0: p = 2e-6
    store.correct = lambda run: more if run == f"{CDS_BOTH}6" else same
    row = image_sampling(frame, store).iloc[0]
    assert (row["mcnemar"], row["only_ours"], row["only_reference"]) == (1, 10, 0)


def test_a_slope_is_that_of_the_gain_by_doubling():
    frame = []
    for rung in (rung for rung in RUNGS if rung.factor == "epochs"):
        doublings = np.log2(rung.value / 30)
        control = {seed: 20 + seed for seed in rung.seeds}
        gain = {seed: (0.4 + 0.01 * seed) * doublings - 1 for seed in rung.seeds}
        frame += rows(CONTROL, rung.setting, TOP1, control)
        frame += rows(CDS_BOTH, rung.setting, TOP1, {seed: control[seed] + gain[seed] for seed in control})
    frame = pd.DataFrame(frame)
    found = slopes(frame, np.nan).set_index("factor")
    assert found.loc["epochs", "difference"] == pytest.approx(0.47) and found.loc["epochs", "n"] == 3
    assert found.loc["epochs", "decision"] == "grows" and found.loc["images", "decision"] == "not run"
    assert found.loc["epochs", "p_holm"] == pytest.approx(3 * found.loc["epochs", "p"])
    assert slopes(frame, 1e-9).loc[0, "p_holm"] == pytest.approx(2 * found.loc["epochs", "p"])
    part = frame[frame["setting"] != "epochs_240"]
    assert (
        slopes(pd.concat([part, frame[frame["setting"] == "epochs_240"].assign(value=None)]), 1.0).loc[0, "decision"]
        == "not complete"
    )
    frame.loc[frame["method"] == CDS_BOTH, "value"] += 3 * (frame["seed"] == 6) * (frame["setting"] == "epochs_240")
    assert slopes(frame, np.nan).loc[0, "decision"] == "undecided"


def test_shares_of_labels_are_pooled_seed_by_seed():
    gains = {10: [1.0, 2.0, 3.0], 20: [0.0, 0.0, 1.0], 30: [1.0, 1.0, 1.0], 40: [2.0, 1.0, 2.0]}
    frame = []
    for percent, each in gains.items():
        control = {seed: 10.0 + seed for seed in range(3)}
        frame += rows("baseline_matched", f"semi_{percent}", TOP1, control)
        frame += rows("cds_simclr_smaller", f"semi_{percent}", TOP1, {s: control[s] + each[s] for s in control})
    pooled = np.mean([*gains.values()], axis=0)  # 1, 1, 1.75
    (found,) = few_labels(pd.DataFrame(frame)).to_dict("records")
    low, high = stats.ttest_1samp(pooled, 0).confidence_interval(0.95)
    assert (found["n"], found["difference"], found["low"]) == (3, pytest.approx(1.25), pytest.approx(low))
    assert found["decision"] == "adds" and found["high"] == pytest.approx(high)
    (found,) = few_labels(pd.DataFrame(frame[:-3])).to_dict("records")  # one share of labels is missing
    assert (found["n"], found["decision"]) == (0, "not run")


@pytest.mark.parametrize("name", ["rematch", "rematch_layers", "ladder", "heads"])
def test_what_is_planned_and_not_run_is_a_row(name, tmp_path):
    table = TABLES[name]
    frame = tidy(results(table, "mini", None, Store(tmp_path)))
    cells = table.cells("mini", None)
    assert len(frame) == len(cells) and (frame["n"] == 0).all() and (frame["verdict"] == "not run").all()
    assert list(frame["n_planned"]) == [len(cell.seeds) for cell in cells]
    assert not table.official and len({(cell.key, cell.metric) for cell in cells}) == len(cells)
    keys = {cell.key for cell in cells}
    assert all(cell.reference in keys for cell in cells if cell.reference)


def test_exploratory_rows_are_compared_with_runs_that_are_there():
    """The references, nine networks and six seeds of DSN, are runs of Table 1; each needs one new run."""
    committed = {run.id for run in TABLES["table1_cifar100"].runs("mini", None)}
    new = [run for run in TABLES["controls"].runs("mini", None) if run.id not in committed]
    assert [run.options for run in new if run.method == "baseline"] == [{"views": 2}] * 9
    assert {run.seed for run in new if run.options.get("kl_weight") == run.options.get("weight")} == {*range(6)}
    page = (Path(__file__).parents[3] / "docs" / "registration.md").read_text(encoding="utf-8")
    assert page.split("## 2026-11-29: controls")[1].split("`controls`:")[1].split()[:15] == [run.id for run in new]
