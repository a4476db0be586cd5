"""Losses compute in at least float32, however their arguments are given."""

import pytest
import torch
import torch.nn.functional as F

from cds_lib.losses.crd import _SoftplusSum
from cds_lib.losses.kd import kd_loss
from cds_lib.losses.precision import cross_entropy


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arguments_by_name_are_raised_as_those_by_place(dtype):
    student, teacher = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = kd_loss(student.float(), teacher.float(), 4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kd_loss(student, teacher, 4.0), expected)
        assert torch.equal(kd_loss(student=student, teacher=teacher, temperature=4.0), expected)
        weighed = cross_entropy(student, torch.arange(4), weight=teacher[0].abs())
    assert weighed.dtype == torch.float32
    assert torch.equal(weighed, F.cross_entropy(student.float(), torch.arange(4), weight=teacher[0].abs().float()))


def test_the_sum_of_softplus_is_its_sum():
    x = torch.linspace(-40, 40, 101, dtype=torch.float64)
    found = _SoftplusSum.apply(x.float())
    torch.testing.assert_close(found.double(), F.softplus(x).sum(), rtol=1e-6, atol=0)
