"""The mimicry loss against the released values and torch's own KL divergence."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from cds_lib.losses import mimicry_loss
from toys import normal, released


def pairwise(logits, targets):
    """The same sum pair by pair with torch's KL divergence, without smoothing."""
    pairs = itertools.permutations(range(len(logits)), 2)
    log_p, log_target = logits.log_softmax(-1), targets.log_softmax(-1)
    return sum(F.kl_div(log_p[i], log_target[j], log_target=True, reduction="batchmean") for i, j in pairs)


@pytest.mark.parametrize("release", ["dks_total", "dhm_total"])
def test_equals_the_released_implementations(release):
    inputs, expected = released("mimicry")
    logits, targets = torch.stack([inputs[f"branch_{branch}"] for branch in range(3)]), inputs["branch_targets"]
    # The smoothing of both sides is worth 1e-6 of this value: float64 is tight enough to notice if one side lacked it.
    for inside, tolerance in ((logits, 1e-5), (logits.double(), 4e-7)):
        total = sum(F.cross_entropy(one, targets) for one in inside) + mimicry_loss(inside)
        assert total.item() == pytest.approx(expected[release], rel=tolerance)


def test_gradient_is_that_of_the_side_that_learns():
    logits = (2 * normal(3, 6, 5)).requires_grad_()
    found, expected = mimicry_loss(logits), pairwise(logits, logits.detach())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)), rtol=1e-5, atol=1e-7
    )


def test_contradicting_certainties_stay_finite():
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 0] = logits[1, :, 1] = 1000.0  # the probabilities of the others underflow to 0
    logits.requires_grad_()
    loss = mimicry_loss(logits)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(1e8), rel=1e-5) and torch.isfinite(logits.grad).all()


def test_computes_in_float32_inside_autocast():
    logits = (2 * normal(3, 8, 10)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mimicry_loss(logits)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, mimicry_loss(logits.float()), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 10), (1, 3, 8, 10)])
def test_bad_input_is_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        mimicry_loss(torch.zeros(shape))
