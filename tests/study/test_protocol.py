"""A table says what it was trained with: the budgets of its own families, and no others."""

import pytest

from cds_lib.errors import UsageError
from cds_lib.study import profiles, protocol
from cds_lib.study.tables import TABLES


def test_a_table_names_the_budgets_of_its_own_data_sets():
    said = TABLES["table6_finegrained"].describe("mini")
    pretraining, tuning = (profiles.budget("mini", family, "resnet50") for family in ("imagenet", "finetune"))
    assert f"ImageNet: at most {pretraining.train_size:,} training images, views of 56 pixels, 30 epochs" in said
    assert f"Fine-tuning: all images, views of 56 pixels, 30 epochs of batch {tuning.batch_size}, lr 0.01" in said
    assert "CIFAR:" not in said and "Detection:" not in said
    assert "Detection: " in TABLES["table4_coco"].describe("mini")


def test_the_weights_that_were_chosen_are_those_of_the_runs():
    said = TABLES["table1_cifar100"].describe("mini")
    (weight,) = {run.options["weight"] for run in TABLES["table1_cifar100"].runs("mini", (0,)) if run.method == "cds"}
    assert f"CDS {weight:g}, " in said and "ImageNet:" not in said


def test_steps_of_the_learning_rate_are_those_of_the_budget():
    assert "300 epochs of batch 128, lr 0.1, lr / 10 after 90, 180 and 280." in TABLES["calibration"].describe("paper")


def test_smoke_is_one_text_and_other_profiles_are_refused():
    assert protocol.describe("smoke", profiles.FAMILIES.values()) == protocol.describe("smoke")
    with pytest.raises(UsageError, match="Unknown profile 'tiny'"):
        protocol.describe("tiny")
