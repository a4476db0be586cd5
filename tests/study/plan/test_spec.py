"""What a run's id depends on, and what it must not depend on."""

import json
from dataclasses import replace

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.plan import settings
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.tables import TABLES, find_table

SPEC = settings.supervised("paper", "cifar100", "resnet18", "cds", 0)


def test_the_id_is_a_hash_of_the_content_and_nothing_else():
    again = RunSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC and again.id == SPEC.id
    assert int(SPEC.id, 16) >= 0


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"method": "dsn"}, {"model": "resnet34"}, {"dataset": "cifar10"}, {"options": {}}]
)
def test_everything_that_decides_a_result_changes_the_id(change):
    assert replace(SPEC, **change).id != SPEC.id
    assert replace(SPEC, budget=replace(SPEC.budget, epochs=301)).id != SPEC.id


def test_a_field_added_later_leaves_old_ids_alone():
    old = SPEC.to_dict()
    assert old["budget"]["augmentation"] is None
    assert "augmentation" not in SPEC.canonical
    del old["budget"]["augmentation"]  # a spec.json from before the field was there
    assert RunSpec.from_dict(old).id == SPEC.id


def test_a_parent_is_part_of_what_a_run_is():
    child = replace(SPEC, method="kd", parent=replace(SPEC, model="resnet50"))
    assert RunSpec.from_dict(json.loads(json.dumps(child.to_dict()))) == child
    assert child.id != replace(child, parent=None).id
    assert child.id != replace(child, parent=SPEC).id
    assert child.lineage == (child.parent, child)
    grandchild = replace(child, model="resnet34", parent=child).with_seed(4)
    assert [run.seed for run in grandchild.lineage] == [4, 4, 4]
    assert grandchild.with_seed(0).parent == child


@pytest.mark.parametrize("field", ["source", "train_size", "epochs", "milestones", "cutout"])
def test_a_field_that_was_always_there_may_not_be_missing(field):
    content = SPEC.to_dict()
    del content["budget"][field]
    with pytest.raises(UsageError, match=f"{field}.*written by another version"):
        RunSpec.from_dict(content)


def test_the_paper_profile_is_the_released_protocol():
    budget = SPEC.budget
    assert (budget.epochs, budget.batch_size, budget.image_size, budget.width) == (300, 128, 32, 1.0)
    assert (budget.lr, budget.momentum, budget.weight_decay) == (0.1, 0.9, 5e-4)
    assert (budget.schedule, budget.milestones, budget.warmup_epochs) == ("step", (90, 180, 280), 0)
    assert SPEC.options == {"weight": 0.1, "temperature": 0.07, "taps": [1, 2, 3, 4]}
    assert budget.cutout
    assert budget.train_size is None


@pytest.mark.parametrize(
    ("profile", "model", "method", "says"),
    [
        ("tiny", "resnet18", "cds", "Unknown profile 'tiny'"),
        ("mini", "resnet18", "cdx", "no method 'cdx': .* line to METHODS in cds_lib/study/plan/catalogue.py"),
        ("mini", "nonesuch", "cds", "no network 'nonesuch': .* line to NETWORKS in cds_lib/study/plan/catalogue.py"),
    ],
)
def test_unknown_names_are_refused(profile, model, method, says):
    with pytest.raises(UsageError, match=says):
        settings.supervised(profile, "cifar100", model, method, 0)
    with pytest.raises(UsageError, match="Unknown table 'table9'"):
        find_table("table9")


def test_runs_are_unique_and_come_seed_by_seed():
    runs = TABLES["table1_cifar100"].runs("mini", (0, 1))
    assert len({run.id for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_a_parent_that_cannot_be_read_is_one_sentence():
    child = replace(SPEC, method="kd", parent=replace(SPEC, model="resnet50")).to_dict()
    del child["parent"]["budget"]["epochs"]
    with pytest.raises(UsageError) as caught:
        RunSpec.from_dict(child)
    assert str(caught.value).count("cannot be read") == 1
