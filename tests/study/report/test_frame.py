"""The frame: the committed runs give the committed tables, and one comparison function serves all."""

import numpy as np
import pandas as pd
import pytest

import run_folders
from cds_lib.study import statistics
from cds_lib.study.report.comparisons import labels_together
from cds_lib.study.report.frame import compare, histories, paired, results, tidy
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

MINI = Store(run_folders.MINI)
COMMITTED = [name for name in TABLES if (MINI.root / "tables" / f"{name}.csv").exists() and name != "summary"]


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_tables_follow_from_committed_runs_to_the_last_digit(name):
    made = tidy(results(TABLES[name], "mini", None, MINI)).to_csv(index=False, lineterminator="\n")
    assert made == (MINI.root / "tables" / f"{name}.csv").read_text(encoding="utf-8")


def frame_of(values, **more):
    """Return a frame of `values`: method -> one value per seed."""
    same = {"dataset": "d", "model": "m", "setting": "s", "metric": "top1"}
    rows = [
        {**same, "method": method, "seed": seed, "value": value, "run": f"{method}{seed}"}
        for method, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows).assign(profile="mini", paper=np.nan, **more)


def test_compare_pairs_by_seed_and_leaves_out_what_only_one_has():
    frame = frame_of({"a": [3.0, 5.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0, np.nan]})
    (row,) = compare(frame, "a", "b").to_dict("records")
    found = statistics.paired_difference({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (row["difference"], row["low"], row["high"], row["n"]) == (found.difference, found.low, found.high, 3)
    assert row["difference"] == 2.0 and row["verdict"] == statistics.NO_CLAIM
    assert row["runs"] == "a0 a1 a2 b0 b1 b2"


def test_compare_takes_another_number_by_its_name():
    frame = frame_of({"a": [0.0, 0.0], "b": [0.0, 0.0]}, loss=[1.0, 2.0, 3.0, 5.0])
    (row,) = compare(frame, "a", "b", "loss").to_dict("records")
    assert (row["metric"], row["difference"]) == ("loss", -2.5)


def test_compare_finds_a_reference_in_another_setting_alone():
    frame = frame_of({"a": [2.0, 3.0], "b": [1.0, 1.0]})
    frame.loc[frame["method"] == "b", "setting"] = "other"
    assert compare(frame, "a", "b")["difference"].tolist() == [1.5] and compare(frame, "a", "c").empty
    frame.loc[3, "setting"] = "a third"  # now the reference could be either of two
    assert paired(frame, "b").empty


def test_all_shares_of_labels_together_are_not_a_part_of_them():
    values = {"cds_simclr": [3.0, 4.0], "baseline": [1.0, 1.0], "baseline_matched": [2.0, 2.0]}
    frame = pd.concat([frame_of(values).assign(setting="semi_10"), frame_of(values).assign(setting="semi_20")])
    assert labels_together(frame)["n"].tolist() == [2, 2]
    frame.loc[frame["setting"] == "semi_20", "value"] = np.nan  # not trained yet
    assert labels_together(frame)["n"].tolist() == [0, 0]


def test_published_differences_have_a_verdict_and_a_size():
    frame = frame_of({"a": [2.0, 2.1, 1.9], "b": [1.0, 1.0, 1.0]})
    frame["paper"] = frame["method"].map({"a": 80.0, "b": 76.0})
    (row,) = compare(frame, "a", "b").to_dict("records")
    assert (row["published"], row["verdict"], row["size"]) == (4.0, statistics.CONFIRMED, "less")


@pytest.mark.parametrize(
    ("low", "high", "published", "expected"),
    [(0.5, 1.5, 2.0, "less"), (-1.5, -0.5, -1.0, "as published"), (2.5, 3.0, 2.0, "more"), (-0.5, 3.0, 2.0, "")],
)
def test_size(low, high, published, expected):
    assert statistics.size(statistics.Difference((low + high) / 2, low, high, 0.1, 6), published) == expected


def test_pairs_are_the_differences_that_compare_averages():
    frame = results(TABLES["distillation_cifar100"], "mini", None, MINI)  # its baseline has another setting
    for reference in ("baseline", "kd"):
        pairs = paired(frame, reference).groupby("method").difference.agg(["mean", "count"])
        for method in pairs.index:
            (row,) = compare(frame, method, reference).to_dict("records")
            assert (row["difference"], row["n"]) == pytest.approx(tuple(pairs.loc[method]))
        assert reference not in pairs.index


def test_pairs_carry_the_published_difference_and_may_be_of_another_number():
    frame = frame_of({"a": [3.0, np.nan], "b": [1.0, 2.0]}, loss=[1.0, 2.0, 4.0, 8.0])
    frame["paper"] = frame["method"].map({"a": 80.0, "b": 76.0})
    assert paired(frame, "b")[["seed", "difference", "published"]].to_numpy().tolist() == [[0, 2.0, 4.0]]
    losses = paired(frame, "b", "loss")
    assert losses["difference"].tolist() == [-3.0, -6.0] and losses["published"].isna().all()
    assert paired(frame, "c").empty


def test_histories_have_every_epoch_of_every_run_once():
    frame = results(TABLES["training_loss"], "mini", (0,), MINI)  # two metrics of the same runs
    found = histories(frame, MINI)
    assert found.groupby("method").epoch.agg(["count", "max"]).to_numpy().tolist() == [[60, 60]] * 3
    last = found[found["epoch"] == 60].set_index("run")["train_cross_entropy"]
    ends = frame[frame["metric"] == "train_cross_entropy"].set_index("run")["value"]
    assert last.sort_index().equals(ends.sort_index().rename("train_cross_entropy"))
    assert histories(frame.assign(finished=False), MINI).empty
