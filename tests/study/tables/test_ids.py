"""The runs of every table of the paper, pinned: a changed id would orphan every finished run of every user."""

import hashlib

import pytest

from cds_lib.study.plan.protocols import PROFILES
from cds_lib.study.tables import official

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
