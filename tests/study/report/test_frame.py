"""The frame: the committed tables come out of the committed runs, and one comparison serves all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cds_lib.study import statistics
from cds_lib.study.report.frame import compare, results, tidy
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

MINI = Path(__file__).parents[3] / "results" / "mini"


@pytest.mark.parametrize(
    "name", [name for name in TABLES if (MINI / "tables" / f"{name}.csv").exists() and name != "summary"]
)
def test_committed_tables_follow_from_committed_runs_to_the_last_digit(name):
    made = tidy(results(TABLES[name], "mini", None, Store(MINI))).to_csv(index=False, lineterminator="\n")
    assert made == (MINI / "tables" / f"{name}.csv").read_text(encoding="utf-8")


def frame_of(values, **more):
    """`values`: method -> one value a seed."""
    rows = [
        {"dataset": "d", "model": "m", "setting": "s", "metric": "top1", "method": method, "seed": seed, "value": value}
        for method, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows).assign(profile="mini", paper=np.nan, **more)


def test_compare_pairs_by_seed_and_leaves_out_what_only_one_has():
    frame = frame_of({"a": [3.0, 5.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0, np.nan]})
    (row,) = compare(frame, "a", "b").to_dict("records")
    found = statistics.paired_difference({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (row["difference"], row["low"], row["high"], row["n"]) == (found.delta, found.ci_low, found.ci_high, 3)
    assert row["difference"] == 2.0 and row["verdict"] == statistics.NO_CLAIM


def test_compare_takes_another_number_by_its_name():
    frame = frame_of({"a": [0.0, 0.0], "b": [0.0, 0.0]}, loss=[1.0, 2.0, 3.0, 5.0])
    (row,) = compare(frame, "a", "b", "loss").to_dict("records")
    assert (row["metric"], row["difference"]) == ("loss", -2.5)


def test_compare_finds_a_reference_in_another_setting_alone():
    frame = frame_of({"a": [2.0, 3.0], "b": [1.0, 1.0]})
    frame.loc[frame["method"] == "b", "setting"] = "other"
    assert compare(frame, "a", "b")["difference"].tolist() == [1.5]
    assert compare(frame, "a", "c").empty


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
