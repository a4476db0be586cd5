"""Published numbers come back under the project's names, exactly as printed."""

import pytest

from cds_lib.errors import UsageError
from cds_lib.study import published as p

TABLE_1_MODELS = (
    "resnet18 resnet50 resnet101 resnext50_32x4d resnext101_32x8d "
    "wide_resnet50_2 wide_resnet101_2 seresnet18 seresnet50 preactresnet18"
).split()


def test_table_1_rows_and_columns_carry_project_names():
    assert list(p.columns("table_1")) == TABLE_1_MODELS
    assert p.rows("table_1") == ("baseline", "dsn", "dks", "dhm", "cds")


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table_1", "cds", "resnet18", 80.84),
        ("table_1", "baseline", "preactresnet18", 76.84),
        ("table_1", "dhm", "wide_resnet101_2", 82.76),
        ("table_3", "top1_resnet34", "cds", 76.19),
        ("table_3", "top5_resnet50", "baseline", 92.20),
        ("table_4", "faster_rcnn_cds", "AP_L", 50.1),
        ("table_4", "retinanet_baseline", "AP", 36.5),
        ("table_6", "cds", "stanford_dogs", 80.99),
        ("table_7", "top1_resnet18", "cds_kd", 73.23),
        ("contrastive_comparison", "Ours_1", "top1_percent", 78.3),
        ("fig_semi_supervised_cifar10", "cds", "10%", 75.7),
        ("fig_calibration_numbers", "baseline", "ece_percent", 11.92),
    ],
)
def test_known_cells(table, row, column, value):
    assert p.published(table, row, column) == value


def test_unpublished_cells_are_none():
    assert p.published("table_7", "top1_resnet50", "sskd") is None  # printed as a dash
    assert p.published("table_1", "cds", "resnet34") is None  # not in the table
    assert p.published("table_7", "top1_resnet18", "cds") is None  # the distilled method has its own name
    assert p.published("contrastive_comparison", "BYOL", "autoaugment") is None  # a yes/no column is not a number


def test_unknown_table_is_refused():
    with pytest.raises(UsageError, match="table_2"):
        p.published("table_2", "cds", "resnet18")


def test_every_value_of_the_file_is_reachable_and_no_two_rows_collapse():
    for name, table in p._tables().items():
        rows, columns = p.rows(name), p.columns(name)
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert set(table["values"]) == set(table["rows"])
        for poster_row, row in zip(table["rows"], rows, strict=True):
            for printed, column in zip(table["values"][poster_row], columns, strict=True):
                expected = None if printed is None or isinstance(printed, bool) else printed
                assert p.published(name, row, column) == expected


def test_average_gain_of_table_1_agrees_with_the_poster_claim():
    gains = [p.published("table_1", "cds", m) - p.published("table_1", "baseline", m) for m in TABLE_1_MODELS]
    assert sum(gains) / len(gains) == pytest.approx(3.437)


def test_precision_and_source_travel_with_the_number():
    printed, measured = (
        p.paper_value("table_1", "cds", "resnet18"),
        p.paper_value("fig_semi_supervised_cifar100", "cds", "40%"),
    )
    assert (printed.precision, measured.precision) == ("exact", "approximate")
    assert printed.source == "authors' poster, image of Table 1"
    assert p.source("fig_semi_supervised_cifar100").endswith("(measured from the plot, within 0.5 points)")
