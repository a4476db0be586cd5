"""How many seeds a cell has: those that were asked for, else the profile's own, in the miniature by its kind."""

import pytest

from cds_lib.study import ablations, claims, statistics
from cds_lib.study.tables import SUMMARY, TABLES

FIXED = {"00_start_here", "tuning"}  # one run a cell by design


def counts(name, profile, seeds):
    return {cell.key: len(cell.specs) for cell in TABLES[name].cells(profile, seeds)}


def test_headline_cells_of_the_miniature_have_the_seeds_that_a_sign_flip_test_needs():
    for key, number in counts("table1_cifar100", "mini", None).items():
        assert number == (statistics.SIGN_FLIP_SEEDS if key[1] == "resnet18" else 1), key
    for name in ("semi_supervised", "calibration", "training_loss", "linear_probe", "layerwise_accuracy", "tsne"):
        assert set(counts(name, "mini", None).values()) == {statistics.SIGN_FLIP_SEEDS}, name
    assert set(counts("distillation_cifar100", "mini", None).values()) == {statistics.MIN_SEEDS}
    headline = {"baseline", "cds", *(switch.row for switch in ablations.SWITCHES if switch.deviation == "D10")}
    for key, number in counts("deviations", "mini", None).items():
        seeds = statistics.SIGN_FLIP_SEEDS if key[2] in headline else statistics.MIN_SEEDS
        assert number == (1 if key[0] == "imagenet" else seeds), key
    for name in ("table2_cifar10", "table3_imagenet", "table4_coco", "table6_finegrained", "contrastive_methods"):
        assert set(counts(name, "mini", None).values()) == {1}, name


def test_the_full_protocol_has_three_seeds_everywhere():
    for name in TABLES.keys() - FIXED - {SUMMARY}:
        assert set(counts(name, "paper", None).values()) == {statistics.MIN_SEEDS}, name


def test_every_claim_is_planned_with_the_seeds_it_wants_or_is_of_the_breadth_of_the_miniature():
    tables = [t for t in TABLES.values() if t.name != SUMMARY]
    for claim in claims.collect(tables, "mini", None):
        planned = min(len(cell.specs) for cell in (*claim.cells, *claim.references))
        assert planned >= claim.n_wanted or planned == 1, claim.key
    assert all(
        len(c.specs) >= statistics.MIN_SEEDS for claim in claims.collect(tables, "paper", None) for c in claim.cells
    )


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
@pytest.mark.parametrize("name", sorted(TABLES.keys() - FIXED))
def test_seeds_that_are_asked_for_are_those_of_every_cell(name, profile):
    for cell in TABLES[name].cells(profile, (7, 3)):
        assert [spec.seed for spec in cell.specs] == [7, 3], cell.key
