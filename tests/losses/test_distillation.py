"""The losses of the compared methods against the released values, finite differences and double precision."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from cds_lib import losses
from cds_lib.losses import mimicry_loss
from cds_lib.losses.crd import _SoftplusSum
from cds_lib.losses.kd import kd_loss
from cds_lib.losses.precision import cross_entropy
from toys import normal, released

INPUTS, EXPECTED = released("distillation")


# -- released values ---------------------------------------------------------------------------------------------------


def test_logit_losses_equal_the_released_implementations():
    kd = losses.kd_loss(INPUTS["kd_student_logits"], INPUTS["kd_teacher_logits"], 4.0)
    assert kd.item() == pytest.approx(EXPECTED["kd_T4"], rel=1e-5)
    student = released("cds")[0]["cds_logits"]
    soft = losses.soft_cross_entropy(student, INPUTS["cds_kd_teacher_logits"], 3.0)
    assert soft.item() == pytest.approx(EXPECTED["cds_kd_soft_ce"], rel=1e-5)


@pytest.mark.parametrize(("name", "loss"), [("at", losses.attention_loss), ("sp", losses.similarity_loss)])
def test_map_losses_equal_the_released_implementations(name, loss):
    for one, other in (("student", "teacher"), ("teacher", "student")):  # either may have the larger maps
        values = [loss(INPUTS[f"map_{one}_{pair}"], INPUTS[f"map_{other}_{pair}"]).item() for pair in range(2)]
        assert values == pytest.approx(EXPECTED[f"{name}_per_pair"], rel=1e-5)


def test_embedding_losses_equal_the_released_implementations():
    cc = losses.correlation_loss(INPUTS["cc_student"], INPUTS["cc_teacher"])
    assert cc.item() == pytest.approx(EXPECTED["cc"], rel=1e-5)
    pair = INPUTS["rkd_student"], INPUTS["rkd_teacher"]
    rkd = 25 * losses.distance_loss(*pair) + 50 * losses.angle_loss(*pair)
    assert rkd.item() == pytest.approx(EXPECTED["rkd"], rel=1e-5)


def test_ranked_rows_equal_the_released_implementation():
    is_upright = torch.arange(24) % 4 == 0
    rotated, targets = ~is_upright, INPUTS["sskd_targets"].repeat_interleave(3)
    student, teacher = INPUTS["sskd_student_logits"], INPUTS["sskd_teacher_logits"]
    value = losses.ranked_kd_loss(student[rotated], teacher[rotated], targets, temperature=4.0, keep_wrong=1.0)
    assert value.item() == pytest.approx(EXPECTED["sskd_ce_kd_tf_ss"][2], rel=1e-5)

    student, teacher = (losses.rotation_similarities(INPUTS[f"sskd_{side}_ss"]) for side in ("student", "teacher"))
    # Two of the equally ranked rows 0, 1 and 2 are kept. The released sort happened to keep 1 and 2, which therefore
    # come first here.
    order = torch.tensor([1, 2, 0, *range(3, 18)])
    targets = torch.arange(6).repeat_interleave(3)
    arguments = student[order], teacher[order], targets[order]
    value = losses.ranked_kd_loss(*arguments, temperature=0.5, keep_wrong=0.75)
    assert value.item() == pytest.approx(EXPECTED["sskd_ce_kd_tf_ss"][3], rel=1e-5)


# -- gradients and precision -------------------------------------------------------------------------------------------

CANDIDATES = torch.tensor([[0, 3, 4], [1, 3, 5]])


def bank(anchors):
    return normal(6, 3, seed=1, dtype=torch.float32).to(torch.promote_types(anchors.dtype, torch.float32))


SAMPLES = {
    "kd": (lambda s: losses.kd_loss(s, normal(4, 5, seed=1), 4.0), (4, 5)),
    "soft": (lambda s: losses.soft_cross_entropy(s, normal(4, 5, seed=1), 3.0), (4, 5)),
    "attention": (lambda s: losses.attention_loss(s, normal(2, 3, 2, 2, seed=1)), (2, 2, 4, 4)),
    "similarity": (lambda s: losses.similarity_loss(s, normal(3, 6, seed=1)), (3, 4)),
    "correlation": (lambda s: losses.correlation_loss(s, normal(4, 3, seed=1)), (4, 3)),
    "distance": (lambda s: losses.distance_loss(s, normal(4, 5, seed=1)), (4, 3)),
    "angle": (lambda s: losses.angle_loss(s, normal(4, 5, seed=1)), (4, 3)),
    "nce": (lambda s: losses.nce_loss(losses.contrast(s, bank(s), CANDIDATES, 0.5), 0.3, 6), (2, 3)),
    "regression": (lambda s: losses.regression_loss(s, normal(4, 5, seed=1)), (4, 5)),
    "supcon": (lambda s: losses.supcon_loss(s, None, 0.3), (2, 3, 4)),
    "rotations": (lambda s: losses.rotation_similarities(s).square().sum(), (8, 3)),
    "ranked": (
        lambda s: losses.ranked_kd_loss(s, normal(6, 4, seed=1), torch.zeros(6, dtype=torch.int64), 2.0, 0.5),
        (6, 4),
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_by_finite_differences_and_float32_inside_autocast(name):
    loss, shape = SAMPLES[name]
    assert torch.autograd.gradcheck(loss, normal(*shape, seed=2).requires_grad_())
    low = normal(*shape, seed=2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(low)
    torch.testing.assert_close(inside.double(), loss(low.double()).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [losses.correlation_loss, losses.distance_loss, losses.angle_loss, losses.similarity_loss]
)
def test_a_single_image_has_no_relation_to_another(loss):
    """Regression: the means over zero pairs were NaN."""
    student = normal(1, 6).requires_grad_()
    value = loss(student, normal(1, 6, seed=1))
    (grad,) = torch.autograd.grad(value, student)
    assert value.item() == 0 and grad.abs().sum() == 0


# -- near each other, and ranked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("distance", [3e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 0.0])
def test_angles_between_embeddings_that_are_near_each_other(distance, scale):
    """Compare with differences in double precision, as in the released code. Two embeddings at one point have no
    direction and here no gradient."""
    student, teacher = 1 + normal(16, 32), normal(16, 20, seed=1).float()
    student[1] = student[0] + distance * F.normalize(normal(32, seed=2), dim=0)
    student = (scale * student).float()

    def cosines(e):
        differences = e.double()[None] - e.double()[:, None]
        lengths = differences.norm(dim=2, keepdim=True)
        directions = torch.where(lengths > 0, differences / lengths.where(lengths > 0, 1.0), 0.0)
        return directions @ directions.transpose(1, 2)

    student.requires_grad_()
    found = losses.angle_loss(student, teacher)
    expected = F.smooth_l1_loss(cosines(student), cosines(teacher))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    wanted, gradient = (torch.autograd.grad(loss, student)[0] for loss in (expected, found))
    torch.testing.assert_close(gradient, wanted, rtol=1e-2, atol=1e-2 * wanted.abs().max().item())


def test_distances_of_equal_embeddings_have_a_finite_gradient():
    student = normal(6, 4)
    student[3] = student[1]
    losses.distance_loss(student.requires_grad_(), normal(6, 4, seed=1)).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("keep_wrong", "kept"), [(0.0, [1, 4]), (0.3, [1, 2, 4]), (0.5, [0, 1, 2, 4]), (1.0, None)])
def test_the_best_ranked_wrong_rows_are_kept(keep_wrong, kept):
    #       rank of the target, column 0:   2        0        1        3        0        2
    teacher = torch.tensor(
        [[1, 2, 3, 0], [9, 1, 2, 3], [4, 5, 0, 1], [0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 2, 0]]
    ).double()
    student, targets = normal(6, 4), torch.zeros(6, dtype=torch.int64)
    rows = list(range(6)) if kept is None else kept
    expected = losses.kd_loss(student[rows], teacher[rows], 2.0)
    value = losses.ranked_kd_loss(student, teacher, targets, temperature=2.0, keep_wrong=keep_wrong)
    torch.testing.assert_close(value, expected)


def test_no_row_to_keep_is_no_loss():
    student, teacher = normal(1, 3).requires_grad_(), torch.tensor([[0.0, 1.0, 2.0]])
    value = losses.ranked_kd_loss(student, teacher, torch.tensor([0]), temperature=1.0, keep_wrong=0.75)
    value.backward()
    assert value.item() == 0 == student.grad.abs().sum()


# -- mimicry -----------------------------------------------------------------------------------------------------------


def pairwise(logits, targets):
    """Compute the same sum pair by pair with torch's KL divergence, without smoothing."""
    pairs = itertools.permutations(range(len(logits)), 2)
    log_p, log_target = logits.log_softmax(-1), targets.log_softmax(-1)
    return sum(F.kl_div(log_p[i], log_target[j], log_target=True, reduction="batchmean") for i, j in pairs)


@pytest.mark.parametrize("release", ["dks_total", "dhm_total"])
def test_mimicry_equals_the_released_implementations(release):
    inputs, expected = released("mimicry")
    logits, targets = torch.stack([inputs[f"branch_{branch}"] for branch in range(3)]), inputs["branch_targets"]
    # The smoothing of both sides changes this value by 1e-6; in float64 the tolerance would reveal a side without it.
    for inside, tolerance in ((logits, 1e-5), (logits.double(), 4e-7)):
        total = sum(F.cross_entropy(one, targets) for one in inside) + mimicry_loss(inside)
        assert total.item() == pytest.approx(expected[release], rel=tolerance)


def test_mimicry_has_the_gradient_of_the_side_that_learns():
    logits = (2 * normal(3, 6, 5)).requires_grad_()
    found, expected = mimicry_loss(logits), pairwise(logits, logits.detach())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)), rtol=1e-5, atol=1e-7
    )


def test_mimicry_of_contradicting_certainties_is_finite():
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 0] = logits[1, :, 1] = 1000.0  # the probabilities of the others underflow to 0
    logits.requires_grad_()
    loss = mimicry_loss(logits)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(1e8), rel=1e-5) and torch.isfinite(logits.grad).all()


def test_mimicry_computes_in_float32_inside_autocast():
    logits = (2 * normal(3, 8, 10)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mimicry_loss(logits)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, mimicry_loss(logits.float()), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 10), (1, 3, 8, 10)])
def test_mimicry_of_other_shapes_is_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        mimicry_loss(torch.zeros(shape))


# -- precision ---------------------------------------------------------------------------------------------------------


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
