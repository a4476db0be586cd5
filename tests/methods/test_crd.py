"""CRD: the released values, the sampling of negatives, the banks and their checkpoint."""

from functools import partial

import pytest
import torch

from cds_lib.errors import UsageError
from toys import generator, make, released

UNEVEN = torch.tensor([7] * 5 + [-3] * 11 + [40] * 2 + [0] * 6)[torch.randperm(24, generator=generator())]
make_crd = partial(make, "crd", trained_on=UNEVEN)


def test_two_batches_equal_the_released_implementation():
    inputs, expected = released("distillation")
    method = make_crd(trained_on=torch.arange(50) % 4, dimensions=6)
    for side in ("student", "teacher"):
        layer = torch.nn.Linear(inputs[f"crd_{side}"].shape[1], 6)
        layer.load_state_dict({"weight": inputs[f"crd_{side}_weight"], "bias": inputs[f"crd_{side}_bias"]})
        setattr(method, f"embed_{side}", layer)
        getattr(method, f"memory_{side}").copy_(inputs[f"crd_memory_{side}"])
    batch = [inputs[f"crd_{key}"] for key in ("student", "teacher", "index", "contrast_index")]

    assert method.contrastive(*batch).item() == pytest.approx(expected["crd_first_batch"], rel=1e-4)
    partition = method.partition.clone()
    assert partition.tolist() == pytest.approx(expected["crd_Z_student_teacher"], rel=1e-4)
    for side in ("student", "teacher"):
        after = inputs[f"crd_memory_{side}_after"]
        torch.testing.assert_close(getattr(method, f"memory_{side}"), after, rtol=1e-4, atol=1e-6)

    assert method.contrastive(*batch).item() == pytest.approx(expected["crd_second_call"], rel=1e-4)
    assert torch.equal(method.partition, partition)


def test_negatives_are_uniform_over_the_images_of_other_classes():
    method = make_crd()
    assert method.draws == 24 - 11
    drawn = torch.cat([method.sample_negatives(torch.arange(24)) for _ in range(400)], dim=1)
    assert drawn.shape == (24, 13 * 400) and (UNEVEN[drawn] != UNEVEN[:, None]).all()
    for image in range(24):
        others = (UNEVEN[image] != UNEVEN).nonzero().flatten()
        counts = torch.bincount(drawn[image], minlength=24)[others]
        share = 13 * 400 / len(others)
        assert 0.7 * share < counts.min() and counts.max() < 1.3 * share


@pytest.mark.parametrize(("asked", "drawn"), [(16384, 13), (13, 13), (4, 4)])
def test_there_are_no_more_negatives_than_images_outside_the_largest_class(asked, drawn):
    assert make_crd(negatives=asked).sample_negatives(torch.tensor([3, 3])).shape == (2, drawn)


def test_one_class_is_refused():
    with pytest.raises(UsageError, match="at least two classes"):
        make_crd(trained_on=torch.zeros(5, dtype=torch.int64))


def test_a_step_uses_the_index_and_moves_those_rows_only():
    method = make_crd()
    before = method.memory_student.clone()
    index = torch.tensor([3, 20, 11, 6])
    method(torch.randn(4, 3, 16, 16), UNEVEN[index].clamp(0, 3), index)
    moved = (method.memory_student != before).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(index.tolist())
    torch.testing.assert_close(method.memory_student[index].norm(dim=1), torch.ones(4))


def test_banks_and_partition_are_in_the_checkpoint():
    method, index = make_crd(), torch.arange(8)
    batch = torch.randn(8, 3, 16, 16), UNEVEN[index].clamp(0, 3), index
    method(*batch)
    state = method.state_dict()
    assert {"memory_student", "memory_teacher", "partition"} < state.keys()
    assert not {"by_class", "class_start", "class_size"} & state.keys()  # they follow from the labels
    again = make_crd()
    again.load_state_dict(state)
    results = []
    for one in (method, again):
        torch.manual_seed(5)
        results.append(one(*batch)["contrastive"])
    assert torch.equal(*results)
