"""How many seeds a cell has: those that were asked for, else the profile's own, by its kind."""

import pytest

from cds_lib.study import statistics
from cds_lib.study.plan import claims
from cds_lib.study.tables import SUMMARY, TABLES, deviations, official


def counts(name, profile, seeds):
    return {cell.key: len(cell.specs) for cell in TABLES[name].cells(profile, seeds)}


@pytest.mark.parametrize(("profile", "breadth"), [("mini", 1), ("paper", statistics.MIN_SEEDS)])
def test_headline_cells_have_the_seeds_that_a_sign_flip_test_needs(profile, breadth):
    """Of all others a miniature has one seed, which shows that they train, and the full protocol what verdicts need."""
    for key, number in counts("table1_cifar100", profile, None).items():
        assert number == (statistics.SIGN_FLIP_SEEDS if key[1] == "resnet18" else breadth), key
    for name in ("semi_supervised", "calibration", "training_loss", "linear_probe", "layerwise_accuracy", "tsne"):
        assert set(counts(name, profile, None).values()) == {statistics.SIGN_FLIP_SEEDS}, name
    assert set(counts("distillation_cifar100", profile, None).values()) == {statistics.MIN_SEEDS}
    headline = {"baseline", "cds", *(switch.row for switch in deviations.SWITCHES if switch.deviation == "D10")}
    for key, number in counts("deviations", profile, None).items():
        seeds = statistics.SIGN_FLIP_SEEDS if key[2] in headline else statistics.MIN_SEEDS
        assert number == (breadth if key[0] == "imagenet" else seeds), key
    for name in ("table2_cifar10", "table3_imagenet", "table4_coco", "table6_finegrained", "contrastive_methods"):
        assert set(counts(name, profile, None).values()) == {breadth}, name


def test_every_claim_is_planned_with_the_seeds_it_wants_or_is_of_the_breadth_of_the_miniature():
    tables = [t for t in official() if t.name != SUMMARY]
    for profile, least in (("mini", 1), ("paper", None)):
        for claim in claims.collect(tables, profile, None):
            planned = min(len(cell.specs) for cell in (*claim.cells, *claim.references))
            assert planned >= claim.n_wanted or planned == least, claim.key


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
@pytest.mark.parametrize("name", [table.name for table in TABLES.values() if not table.own_seeds])
def test_seeds_that_are_asked_for_are_those_of_every_cell(name, profile):
    for cell in TABLES[name].cells(profile, (7, 3)):
        assert [spec.seed for spec in cell.specs] == [7, 3], cell.key
