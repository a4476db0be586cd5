"""The runs of every table, pinned: a changed id would orphan every finished run of every user; their seeds."""

import hashlib

import pytest

from cds_lib.study import statistics
from cds_lib.study.plan import claims
from cds_lib.study.plan.protocols import PROFILES
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
            assert planned >= claim.n_wanted or planned == least, claim


def test_seeds_that_are_asked_for_are_those_of_every_cell_but_of_a_table_with_its_own():
    seeds = {name: {cell.seeds for cell in TABLES[name].cells("mini", (7, 3))} for name in ("table4_coco", "tuning")}
    assert seeds == {"table4_coco": {(7, 3)}, "tuning": {(100,)}}


# Of the ids of all runs, in their order; smoke, mini, paper.
HASHES = {
    "00_start_here": "c7ae548b c7ae548b c7ae548b",
    "tuning": "db010ae8 8fcc8cd5 93a88ef5",
    "table1_cifar100": "5d7eaf9e f838ff2e 82ea081e",
    "table2_cifar10": "ad135dc6 4b4b6dfa 517901d7",
    "table3_imagenet": "645addd2 c218306f b11c38e7",
    "table4_coco": "39466311 58d86380 4e7e80b9",
    "table6_finegrained": "868ebb03 98085f37 b3d8cd79",
    "table7_imagenet_distillation": "1ff04a98 17a4e344 eaa65c64",
    "contrastive_methods": "9d0a3d74 d4121810 4cd2498c",
    "distillation_cifar100": "95130149 2fa0d6a4 b930147d",
    "semi_supervised": "b5b31c8c 5277f469 5e78bc30",
    "linear_probe": "c84a3b3e bd87d161 e6dfd88a",
    "layerwise_accuracy": "c84a3b3e bd87d161 e6dfd88a",
    "calibration": "c84a3b3e bd87d161 e6dfd88a",
    "training_loss": "c84a3b3e bd87d161 e6dfd88a",
    "tsne": "c84a3b3e bd87d161 e6dfd88a",
    "deviations": "72808fd1 ea55d3b4 95f5e44d",
    "summary": "40a6e984 7be6aea3 37123612",
}


@pytest.mark.parametrize("table", official(), ids=lambda table: table.name)
def test_ids_and_their_order_never_change(table):
    ids = (" ".join(run.id for run in table.runs(profile, None)) for profile in PROFILES)
    assert " ".join(hashlib.sha256(text.encode()).hexdigest()[:8] for text in ids) == HASHES[table.name]
