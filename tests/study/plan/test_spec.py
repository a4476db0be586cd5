"""The inputs of a run's id; any JSON spec is refused in one sentence or unchanged by a round trip."""

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_lib.errors import UsageError
from cds_lib.study.plan.settings import distilled, supervised
from cds_lib.study.plan.spec import Budget, RunSpec
from toys import places

SPEC = supervised("paper", "cifar100", "resnet18", "cds", 0)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"method": "dsn"}, {"model": "resnet34"}, {"dataset": "cifar10"}, {"options": {}}]
)
def test_everything_that_decides_a_result_changes_the_id(change):
    assert replace(SPEC, **change).id != SPEC.id
    assert replace(SPEC, budget=replace(SPEC.budget, epochs=301)).id != SPEC.id


def test_a_parent_is_part_of_what_a_run_is():
    assert int(SPEC.id, 16) >= 0
    child = replace(SPEC, method="kd", parent=replace(SPEC, model="resnet50"))
    assert RunSpec.from_dict(json.loads(json.dumps(child.to_dict()))) == child
    assert child.id != replace(child, parent=None).id and child.id != replace(child, parent=SPEC).id
    assert child.lineage == (child.parent, child)
    grandchild = replace(child, model="resnet34", parent=child).with_seed(4)
    assert [run.seed for run in grandchild.lineage] == [4, 4, 4] and grandchild.with_seed(0).parent == child


@pytest.mark.parametrize("field", ["source", "train_size", "epochs", "milestones", "cutout"])
def test_a_field_that_was_always_there_may_not_be_missing(field):
    """This also holds for a parent; the fault is reported once."""
    content = SPEC.to_dict()
    del content["budget"][field]
    for faulty in (content, {**SPEC.to_dict(), "parent": content}):
        with pytest.raises(UsageError, match=f"{field}.*written by another version") as caught:
            RunSpec.from_dict(faulty)
        assert str(caught.value).count("cannot be read") == 1


WHOLE = distilled("mini", "cifar100", "resnet18", "cds_kd", 1).to_dict()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def nearly_specs(draw):
    """Draw a complete spec in which some values are replaced, removed or added."""
    spec = json.loads(json.dumps(WHOLE))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(spec), key=str)))
        if not path:
            return draw(JUNK)
        holder = spec
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(("replace", "remove", "add")))
        if change == "remove":
            del holder[path[-1]]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.text(max_size=5))] = draw(JUNK)
        else:
            holder[path[-1]] = draw(JUNK)
    return spec


@settings(max_examples=60)
@given(nearly_specs())
def test_a_spec_is_refused_or_comes_back_equal(content):
    try:
        spec = RunSpec.from_dict(content)
    except UsageError as error:
        assert "written by another version" in str(error)
        return
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec and again.id == spec.id and len(spec.id) == 12
    assert json.loads(spec.canonical) is not None


def turned(value, chance):
    """Return the same content with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: turned(value[key], chance) for key in keys}
    return [turned(one, chance) for one in value] if isinstance(value, list) else value


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.dictionaries(st.text(max_size=5), JUNK, max_size=4), st.integers(0, 10**9))
def test_the_order_of_keys_and_fields_that_are_none_leave_the_id_alone(chance, options, seed):
    try:
        spec = RunSpec.from_dict({**WHOLE, "options": options, "seed": seed})
    except UsageError:
        return  # not a number
    content = spec.to_dict()
    assert RunSpec.from_dict(turned(content, chance)).id == spec.id
    optional = {field.name for field in fields(Budget) if field.default is None}
    for name in [name for name in optional if content["budget"][name] is None]:
        del content["budget"][name]
    assert RunSpec.from_dict(content).id == spec.id
    assert RunSpec.from_dict({**content, "options": {**options, "new option": None}}).id == spec.id
    assert RunSpec.from_dict({**content, "seed": seed + 1}).id != spec.id
    assert RunSpec.from_dict({**content, "parent": None}).id != spec.id and asdict(spec)["options"] == options


def test_a_spec_nested_without_end_is_refused():
    content = WHOLE
    for _ in range(5000):
        content = {**WHOLE, "parent": content}
    with pytest.raises(UsageError) as caught:
        RunSpec.from_dict(content)
    assert len(str(caught.value)) < 300
