"""Published numbers come back under the project's names, exactly as printed."""

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.plan import published as p
from cds_lib.study.plan.catalogue import DEEP_SUPERVISION, TEN_NETWORKS


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table_1", "cds", "resnet18", 80.84),
        ("table_3", "top1_resnet34", "cds", 76.19),
        ("table_4", "faster_rcnn_cds", "AP_L", 50.1),
        ("table_4", "retinanet_baseline", "AP", 36.5),
        ("table_6", "cds", "stanford_dogs", 80.99),
        ("table_7", "top1_resnet18", "cds_kd", 73.23),
        ("contrastive_comparison", "Ours_1", "top1_percent", 78.3),
        ("fig_semi_supervised_cifar10", "cds", "10%", 75.7),
        ("fig_calibration_numbers", "baseline", "ece_percent", 11.92),
        ("table_7", "top1_resnet50", "sskd", None),  # printed as a dash
        ("table_1", "cds", "resnet34", None),  # not in the table
        ("table_7", "top1_resnet18", "cds", None),  # the distilled method has its own name
        ("contrastive_comparison", "BYOL", "autoaugment", None),  # a yes/no column is not a number
    ],
)
def test_known_cells(table, row, column, value):
    assert p.published(table, row, column) == value


@pytest.mark.parametrize("name", p._tables())
def test_every_value_of_the_file_is_reachable_and_no_two_rows_collapse(name):
    table, frame = p._tables()[name], p.frame(name)
    assert frame.index.is_unique and frame.columns.is_unique and set(table["values"]) == set(table["rows"])
    for poster_row, row in zip(table["rows"], frame.index, strict=True):
        for printed, column in zip(table["values"][poster_row], frame.columns, strict=True):
            assert p.published(name, row, column) == (None if isinstance(printed, bool) else printed)


def test_average_gain_of_table_1_agrees_with_the_poster_claim():
    frame = p.frame("table_1")
    assert (tuple(frame.index), tuple(frame.columns)) == (DEEP_SUPERVISION, TEN_NETWORKS)
    assert np.mean(frame.loc["cds"] - frame.loc["baseline"]) == pytest.approx(p.poster_claim("table_1")[1], abs=0.005)


def test_a_source_says_how_precise_its_numbers_are():
    assert (p.is_approximate("table_1"), p.is_approximate("fig_semi_supervised_cifar100")) == (False, True)
    assert p.source("fig_semi_supervised_cifar100").endswith("(measured from the plot, within 0.5 points)")
    with pytest.raises(UsageError, match="table_2"):
        p.published("table_2", "cds", "resnet18")
