"""Published numbers appear under the project's names, exactly as printed; each difference is exactly one claim."""

from collections import Counter

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.plan import claims, published
from cds_lib.study.plan import published as p
from cds_lib.study.plan.catalogue import DEEP_SUPERVISION, TEN_NETWORKS
from cds_lib.study.tables import TABLES, official
from cds_lib.study.tables.summary import published_claims


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


# -- claims ------------------------------------------------------------------------------------------------------------


SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def collected():
    return published_claims("mini", SEEDS)


def minus(table_id, pairs, transposed=False):
    """Return the nonzero differences between printed lines, from the file alone.

    pairs: (line, reference line), by their names on the poster; `*` stands for each other line of the table.
    """
    table = published._tables()[table_id]
    lines = {name: table["values"][name] for name in table["rows"]}
    if transposed:
        lines = dict(zip(table["columns"], zip(*lines.values(), strict=True), strict=True))
    named = [(name, base) for one, base in pairs for name in (lines if one == "*" else [one]) if name != base]
    cells = [pair for name, base in named for pair in zip(lines[name], lines[base], strict=True) if None not in pair]
    return [round(value - base, 6) for value, base in cells if value != base]


def ours_minus(*others):
    return [("Ours", other) for other in others]


DEEP, DISTILLED = ("DSN", "DKS", "DHM"), ("KD", "AT", "RKD", "SP", "CRD", "CC", "OKD", "SSKD")
DETECTORS = ("faster_rcnn_", "retinanet_")
TOP1 = published.frame("contrastive_comparison")["top1_percent"]
EXPECTED = {
    ("table1_cifar100", "baseline"): minus("table_1", [("*", "Base")]),
    ("table1_cifar100", "rival"): minus("table_1", ours_minus(*DEEP)),
    ("table1_cifar100", "poster"): [3.44],
    ("table3_imagenet", "baseline"): minus("table_3", [("*", "Baseline")], transposed=True) * 2,  # two stems
    ("table3_imagenet", "rival"): minus("table_3", ours_minus(*DEEP), transposed=True) * 2,
    ("table3_imagenet", "poster"): [3.20, 3.20],
    ("table4_coco", "baseline"): minus(
        "table_4", [(d + m, d + "Baseline") for d in DETECTORS for m in (*DEEP, "Ours")]
    ),
    ("table4_coco", "rival"): minus("table_4", [(d + "Ours", d + m) for d in DETECTORS for m in DEEP]),
    ("table4_coco", "poster"): [0.85],
    ("table6_finegrained", "baseline"): minus("table_6", [("*", "Baseline")]),
    ("table6_finegrained", "rival"): minus("table_6", ours_minus(*DEEP)),
    ("table6_finegrained", "poster"): [3.11],
    ("table7_imagenet_distillation", "baseline"): minus("table_7", [("*", "Base")], transposed=True),
    ("table7_imagenet_distillation", "rival"): minus("table_7", ours_minus(*DISTILLED), transposed=True),
    ("table7_imagenet_distillation", "poster"): [3.62],
    ("contrastive_methods", "poster"): [1.6],
    ("contrastive_methods", "baseline"): list((TOP1 - TOP1["Baseline_1"]).drop("Baseline_1")),
    ("calibration", "baseline"): [round(5.27 - 11.92, 6)],
    ("training_loss", "baseline"): [0.02],
    ("semi_supervised", "baseline"): [
        delta for name in ("cifar100", "cifar10") for delta in minus(f"fig_semi_supervised_{name}", [("*", "Baseline")])
    ],
}


@pytest.mark.parametrize("family", EXPECTED, ids="-".join)
def test_the_claims_of_a_table_are_the_printed_differences_each_once(collected, family):
    found = sorted(claim.paper_delta for claim in collected if (claim.table, claim.kind) == family)
    assert found == pytest.approx(sorted(EXPECTED[family]))


def test_every_claim_appears_exactly_once_and_no_table_is_left_out(collected):
    named = [(c.table, c.kind, c.dataset, c.model, c.cells[0].key, c.cells[0].metric, c.rival) for c in collected]
    assert max(Counter(named).values()) == 1
    tables = [table for table in official() if table.name != "summary"]
    cells = {table.name: table.cells("mini", (0,)) for table in tables}
    with_numbers = {name for name, own in cells.items() if any(c.paper is not None and c.reference for c in own)}
    assert {claim.table for claim in collected} >= with_numbers
    for claim in collected:
        assert len(claim.cells) == len(claim.references) > 0
        assert claim.paper_delta and claim.source
        for cell, reference in zip(claim.cells, claim.references, strict=True):
            same = [(c.metric, c.model, c.dataset) for c in (cell, reference)]
            assert same[0] == same[1] and cell.paper is not None and reference.paper is not None


def test_a_table_without_published_numbers_makes_no_claim():
    assert claims.collect([TABLES["table2_cifar10"]], "mini", (0,)) == []


def test_the_summary_trains_what_its_claims_compare_and_nothing_else(collected):
    cells = [cell for claim in collected for cell in (*claim.cells, *claim.references)]
    wanted = {run.id for cell in cells for spec in cell.specs for run in spec.lineage}
    assert {spec.id for spec in TABLES["summary"].runs("mini", SEEDS)} == wanted
