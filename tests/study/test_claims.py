"""Every published difference is one claim, once, read from the file of published numbers alone."""

from collections import Counter

import pytest
import yaml

from cds_lib.study import claims, published
from cds_lib.study.tables import TABLES, official
from cds_lib.study.tables.summary import published_claims

SEEDS = (0, 1, 2)
PAPER = {table["id"]: table for table in yaml.safe_load(published.PAPER_TABLES.read_text())["tables"]}


@pytest.fixture(scope="module")
def collected():
    return published_claims("mini", SEEDS)


def printed(table_id, reference, transposed=False, times=1):
    """The differences between the printed lines and the one called `reference`, from the file alone; no zeros."""
    table = PAPER[table_id]
    lines = {name: table["values"][name] for name in table["rows"]}
    if transposed:
        lines = dict(zip(table["columns"], zip(*lines.values(), strict=True), strict=True))
    found = [
        round(value - base, 6)
        for name, line in lines.items()
        if name != reference
        for value, base in zip(line, lines[reference], strict=True)
        if value is not None
    ]
    return sorted([delta for delta in found if delta] * times)


def detectors(of, against):
    values = PAPER["table_4"]["values"]
    pairs = [
        zip(values[f"{name}_{method}"], values[f"{name}_{base}"], strict=True)
        for name in ("faster_rcnn", "retinanet")
        for method, base in [(m, b) for m in of for b in against]
    ]
    return sorted(delta for pair in pairs for delta in (round(a - b, 6) for a, b in pair) if delta)


def contrastive_baselines():
    values = {name: line[-1] for name, line in PAPER["contrastive_comparison"]["values"].items()}
    return sorted(round(value - values["Baseline_1"], 6) for name, value in values.items() if name != "Baseline_1")


def against(table_id, others, transposed=False, times=1):
    """Ours minus each of the others."""
    table = PAPER[table_id]
    lines = {name: table["values"][name] for name in table["rows"]}
    if transposed:
        lines = dict(zip(table["columns"], zip(*lines.values(), strict=True), strict=True))
    pairs = [(a, b) for name in others for a, b in zip(lines["Ours"], lines[name], strict=True) if b is not None]
    return sorted([round(a - b, 6) for a, b in pairs if a != b] * times)


DEEP, DISTILLED = ("DSN", "DKS", "DHM"), ("KD", "AT", "RKD", "SP", "CRD", "CC", "OKD", "SSKD")
EXPECTED = {
    ("table1_cifar100", "baseline"): lambda: printed("table_1", "Base"),
    ("table1_cifar100", "rival"): lambda: against("table_1", DEEP),
    ("table1_cifar100", "poster"): lambda: [3.44],
    ("table3_imagenet", "baseline"): lambda: printed("table_3", "Baseline", transposed=True, times=2),  # two stems
    ("table3_imagenet", "rival"): lambda: against("table_3", DEEP, transposed=True, times=2),
    ("table3_imagenet", "poster"): lambda: [3.20, 3.20],
    ("table4_coco", "baseline"): lambda: detectors((*DEEP, "Ours"), ["Baseline"]),
    ("table4_coco", "rival"): lambda: detectors(["Ours"], DEEP),
    ("table4_coco", "poster"): lambda: [0.85],
    ("table6_finegrained", "baseline"): lambda: printed("table_6", "Baseline"),
    ("table6_finegrained", "rival"): lambda: against("table_6", DEEP),
    ("table6_finegrained", "poster"): lambda: [3.11],
    ("table7_imagenet_distillation", "baseline"): lambda: printed("table_7", "Base", transposed=True),
    ("table7_imagenet_distillation", "rival"): lambda: against("table_7", DISTILLED, transposed=True),
    ("table7_imagenet_distillation", "poster"): lambda: [3.62],
    ("contrastive_methods", "baseline"): contrastive_baselines,
    ("contrastive_methods", "poster"): lambda: [1.6],
    ("calibration", "baseline"): lambda: [round(5.27 - 11.92, 6)],
    ("training_loss", "baseline"): lambda: [0.02],
    ("semi_supervised", "baseline"): lambda: sorted(
        printed("fig_semi_supervised_cifar100", "Baseline") + printed("fig_semi_supervised_cifar10", "Baseline")
    ),
}


@pytest.mark.parametrize("family", EXPECTED, ids="-".join)
def test_the_claims_of_a_table_are_the_printed_differences_each_once(collected, family):
    found = sorted(claim.paper_delta for claim in collected if (claim.table, claim.kind) == family)
    assert found == EXPECTED[family]()


def test_every_claim_appears_exactly_once_and_no_table_is_left_out(collected):
    assert max(Counter(claim.key for claim in collected).values()) == 1
    with_numbers = {
        table.name
        for table in official()
        if table.name != "summary"
        and any(cell.paper is not None and cell.reference for cell in table.cells("mini", (0,)))
    }
    assert {claim.table for claim in collected} >= with_numbers
    for claim in collected:
        assert len(claim.cells) == len(claim.references) > 0
        assert claim.paper_delta and claim.source
        for cell, reference in zip(claim.cells, claim.references, strict=True):
            assert cell.metric == reference.metric and cell.model == reference.model
            assert cell.dataset == reference.dataset and cell.paper is not None and reference.paper is not None


def test_a_new_table_with_published_numbers_joins_by_itself():
    table = TABLES["table1_cifar100"]
    (claim,) = [
        claim
        for claim in claims.collect([table], "mini", (0,))
        if claim.key[3:5] == ("resnet18", "cds") and claim.kind == "baseline"
    ]
    assert claim.paper_delta == 3.39
    assert claims.collect([TABLES["table2_cifar10"]], "mini", (0,)) == []  # no number of it is known


def test_the_summary_trains_what_its_claims_compare_and_nothing_else(collected):
    wanted = {
        s.id for c in collected for cell in (*c.cells, *c.references) for spec in cell.specs for s in spec.lineage
    }
    assert {spec.id for spec in TABLES["summary"].runs("mini", SEEDS)} == wanted
