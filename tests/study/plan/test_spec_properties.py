"""Any JSON as a spec: refused in a sentence, or the same spec again after every round trip."""

import json
from dataclasses import asdict, fields

from hypothesis import given, settings
from hypothesis import strategies as st

from cds_lib.errors import UsageError
from cds_lib.study.plan.settings import distilled
from cds_lib.study.plan.spec import Budget, RunSpec

fixed = settings(derandomize=True, database=None, deadline=None)
WHOLE = distilled("mini", "cifar100", "resnet18", "cds_kd", 1).to_dict()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Paths of all values in nested dicts and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def nearly_specs(draw):
    """A whole spec in which some values are something else, or gone, or new."""
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


@settings(fixed, max_examples=60)
@given(nearly_specs())
def test_a_spec_is_refused_or_comes_back_equal(content):
    try:
        spec = RunSpec.from_dict(content)
    except UsageError as error:
        assert "written by another version" in str(error)
        return
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.id == spec.id
    assert json.loads(spec.canonical) is not None
    assert len(spec.id) == 12


def turned(value, chance):
    """The same content with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: turned(value[key], chance) for key in keys}
    return [turned(one, chance) for one in value] if isinstance(value, list) else value


@settings(fixed, max_examples=20)
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
    assert RunSpec.from_dict({**content, "parent": None}).id != spec.id
    assert asdict(spec)["options"] == options


def test_a_spec_nested_without_end_is_refused():
    content = WHOLE
    for _ in range(5000):
        content = {**WHOLE, "parent": content}
    try:
        RunSpec.from_dict(content)
    except UsageError as error:
        assert len(str(error)) < 300
    else:
        raise AssertionError("it was taken")
