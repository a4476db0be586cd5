"""How many seeds a cell has: those that were asked for, else the profile's own, and more for headline cells."""

import pytest

from cds_lib.study import claims, statistics
from cds_lib.study.tables import SUMMARY, TABLES

FIXED = {"00_start_here", "tuning"}  # one run a cell by design


def counts(name, profile, seeds):
    return {cell.key: len(cell.specs) for cell in TABLES[name].cells(profile, seeds)}


def test_headline_cells_of_the_miniature_have_the_seeds_that_a_sign_flip_test_needs():
    for key, number in counts("table1_cifar100", "mini", None).items():
        assert number == (statistics.HEADLINE_SEEDS if key[1] == "resnet18" else statistics.MIN_SEEDS), key
    for name in ("semi_supervised", "calibration", "training_loss", "linear_probe", "layerwise_accuracy", "tsne"):
        assert set(counts(name, "mini", None).values()) == {statistics.HEADLINE_SEEDS}, name
    for name in ("table2_cifar10", "table3_imagenet", "distillation_cifar100", "deviations"):
        assert set(counts(name, "mini", None).values()) == {statistics.MIN_SEEDS}, name


def test_every_claim_of_the_miniature_is_planned_with_the_seeds_it_wants():
    for claim in claims.collect([t for t in TABLES.values() if t.name != SUMMARY], "mini", None):
        assert all(len(cell.specs) >= claim.n_wanted for cell in (*claim.cells, *claim.references)), claim.key


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
@pytest.mark.parametrize("name", sorted(TABLES.keys() - FIXED))
def test_seeds_that_are_asked_for_are_those_of_every_cell(name, profile):
    for cell in TABLES[name].cells(profile, (7, 3)):
        assert [spec.seed for spec in cell.specs] == [7, 3], cell.key
