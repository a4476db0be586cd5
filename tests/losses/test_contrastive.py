"""The contrastive loss against the released values, an independent library, finite differences and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss as PMLSupConLoss
from pytorch_metric_learning.reducers import MeanReducer

from cds_lib.losses import SupConLoss, contrastive_kernel, supcon_loss
from cds_lib.losses.contrastive import supcon_formula
from toys import normal, released


def embeddings(*shape, seed=0, dtype=torch.float32):
    return F.normalize(normal(*shape, seed=seed, dtype=dtype), dim=-1)


def test_equals_the_released_implementation():
    inputs, expected = released("cds")
    z, labels = inputs["cds_z"], inputs["cds_labels"]
    torch.testing.assert_close(supcon_loss(z, labels), torch.tensor(expected["supcon_per_tap"]), rtol=1e-5, atol=0)
    torch.testing.assert_close(supcon_loss(z), torch.tensor(expected["simclr_per_tap"]), rtol=1e-5, atol=0)
    cross_entropy = F.cross_entropy(inputs["cds_logits"], inputs["cds_targets"])
    total = cross_entropy + 0.1 * supcon_loss(z, labels).sum()
    assert total.item() == pytest.approx(expected["cds_total_released"], rel=1e-5)


def test_equals_pytorch_metric_learning():
    z, labels, temperature = embeddings(2, 24, 16), torch.arange(24) % 7, 0.5
    flat, both = z.reshape(48, 16), labels.repeat(2)
    oracle = PMLSupConLoss(temperature=temperature, reducer=MeanReducer())(flat, both)
    assert supcon_loss(z, labels, temperature).item() == pytest.approx(oracle.item(), rel=1e-5)
    pairs = torch.arange(24).repeat(2)
    oracle = NTXentLoss(temperature=temperature, reducer=MeanReducer())(flat, pairs)
    assert supcon_loss(z, None, temperature).item() == pytest.approx(oracle.item(), rel=1e-5)


def test_gradient_by_finite_differences():
    z = embeddings(2, 3, 5, 4, dtype=torch.float64).requires_grad_()  # 2 taps, 3 views
    labels = torch.tensor([3, 3, -1, 0, 3])
    assert torch.autograd.gradcheck(lambda z: supcon_loss(z, labels, 0.3), z)
    assert torch.autograd.gradcheck(lambda z: supcon_loss(z, None, 0.3), z)


@pytest.mark.parametrize("held", [34 * 5, 34**2, 2 * 34**2])  # five anchors of a tap at a time, one tap, two taps
def test_groups_of_taps_and_blocks_of_anchors_change_nothing(monkeypatch, held):
    z, labels = embeddings(3, 2, 17, 8, dtype=torch.float64).requires_grad_(), torch.arange(17) % 5
    whole = supcon_loss(z, labels)
    (whole_grad,) = torch.autograd.grad(whole.sum(), z)
    monkeypatch.setattr(contrastive_kernel, "_BLOCK_ELEMENTS", held)
    blocks = supcon_loss(z, labels)
    (blocks_grad,) = torch.autograd.grad(blocks.sum(), z)
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(blocks_grad, whole_grad, rtol=1e-10, atol=1e-14)


def test_anchors_without_a_positive_are_left_out():
    z = embeddings(1, 4, 8).requires_grad_()  # one view: images 2 and 3 have no positive
    labels = torch.tensor([0, 0, 1, 2])
    s = z[0] @ z[0].T / 0.07
    anchors = [torch.logsumexp(s[a][torch.arange(4) != a], 0) - s[a, p] for a, p in ((0, 1), (1, 0))]
    torch.testing.assert_close(supcon_loss(z, labels), sum(anchors) / 2)
    alone = supcon_loss(z, torch.arange(4))
    (grad,) = torch.autograd.grad(alone, z)
    assert alone.item() == 0 == grad.abs().sum()


@pytest.mark.parametrize("shape", [(2, 0, 8), (3, 2, 0, 8)])
def test_no_image_has_no_loss(shape):
    z = torch.zeros(shape, requires_grad=True)
    loss = supcon_loss(z, torch.zeros(0, dtype=torch.long))
    assert torch.equal(loss, torch.zeros(shape[:-3]))
    loss.sum().backward()
    assert z.grad.shape == shape


def test_zero_embeddings_stay_finite():
    z = torch.zeros(2, 4, 8, requires_grad=True)
    loss = supcon_loss(z)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7)) and torch.isfinite(z.grad).all()


# -- the formula, and what the kernel cannot do ------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, torch.arange(13) % 3, torch.arange(13), torch.tensor([0] * 12 + [1])])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_the_kernel_computes_the_formula(labels, views):
    z = embeddings(4, views, 13, 8, dtype=torch.float64).requires_grad_()
    kernel = supcon_loss(z, labels, 0.1)
    formula = supcon_formula(z, torch.arange(13) if labels is None else labels, 0.1)
    torch.testing.assert_close(kernel, formula, rtol=1e-12, atol=1e-12)
    weights = torch.arange(1.0, 5.0, dtype=torch.float64)
    (one,), (other,) = (torch.autograd.grad(loss @ weights, z) for loss in (kernel, formula))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_single_embedding_has_no_loss_and_no_gradient():
    z = embeddings(1, 1, 8).requires_grad_()
    for loss in (supcon_loss(z), supcon_formula(z, torch.zeros(1, dtype=torch.int64))):
        (grad,) = torch.autograd.grad(loss, z)
        assert loss.item() == 0 and grad.abs().sum() == 0


def test_a_temperature_can_be_learned():
    """Regression: a temperature that required a gradient silently got none."""
    z, labels = embeddings(2, 8, 6, dtype=torch.float64), torch.arange(8) % 3
    t = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: supcon_loss(z, labels, t), t)
    loss = supcon_loss(z, labels, t)
    assert loss.item() == pytest.approx(supcon_loss(z, labels, 0.2).item(), rel=1e-12)
    torch.testing.assert_close(supcon_loss(z, labels, t.detach()[None]), loss.detach())  # a buffer of one element
    module = SupConLoss(torch.nn.Parameter(t.detach().clone()))
    module(z, labels).backward()
    assert [name for name, _ in module.named_parameters()] == ["temperature"] and module.temperature.grad.item() != 0
    with pytest.raises(ValueError, match="must be one number"):
        supcon_loss(z, labels, torch.ones(2))


def test_the_functions_of_torch_func():
    z, labels = embeddings(3, 2, 8, 6, dtype=torch.float64), torch.arange(8) % 3
    expected = torch.autograd.functional.jacobian(lambda z: supcon_loss(z, labels).sum(), z)
    torch.testing.assert_close(torch.func.grad(lambda z: supcon_loss(z, labels).sum())(z), expected)
    torch.testing.assert_close(torch.func.vmap(supcon_loss, (0, None))(z, labels), supcon_loss(z, labels))
    each = torch.func.vmap(torch.func.grad(supcon_loss), (0, None))(z, labels)  # the gradient of every tap
    torch.testing.assert_close(each, expected)
    hessian = torch.func.hessian(lambda z: supcon_loss(z, labels, 0.5))(z[0])
    assert torch.isfinite(hessian).all() and hessian.abs().sum() > 0


def test_no_device_is_waited_for():
    """On the meta device, which has no values, an operation that reads a value fails."""
    z, labels = torch.zeros(3, 2, 8, 6, device="meta", requires_grad=True), torch.zeros(8, dtype=int, device="meta")
    for loss in (supcon_loss, SupConLoss()):
        for given in (None, labels):
            loss(z, given).sum().backward()
            assert z.grad.device.type == "meta"


# -- the module --------------------------------------------------------------------------------------------------------


def test_the_module_normalises_as_pytorch_metric_learning_does():
    z, labels = embeddings(2, 24, 16) * torch.linspace(0.1, 90, 24)[:, None], torch.arange(24) % 7
    oracle = PMLSupConLoss(temperature=0.1, reducer=MeanReducer())(z.reshape(48, 16), labels.repeat(2))
    assert SupConLoss(0.1)(z, labels).item() == pytest.approx(oracle.item(), rel=1e-5)
    assert supcon_loss(z, labels, 0.1).item() != pytest.approx(oracle.item(), rel=0.1)  # supcon_loss does not normalise
    for dtype in (torch.float16, torch.bfloat16):
        assert SupConLoss(0.1)(z.to(dtype), labels).item() == pytest.approx(oracle.item(), rel=2e-2)


def test_the_module_takes_the_layout_of_supcontrast():
    inputs, expected = released("cds")
    z, labels = inputs["cds_z"], inputs["cds_labels"]  # (taps, views, B, dim)
    for tap, value in zip(z, expected["supcon_per_tap"], strict=True):
        assert SupConLoss()(tap, labels).item() == pytest.approx(value, rel=1e-5)
        assert SupConLoss(batch_first=True)(tap.transpose(0, 1), labels).item() == pytest.approx(value, rel=1e-5)
    square = embeddings(2, 2, 8)  # as many views as images: only the argument decides
    first, last = (SupConLoss(batch_first=choice)(square) for choice in (False, True))
    assert abs(first.item() - last.item()) > 1e-3 and last == SupConLoss()(square.transpose(0, 1))


def test_an_unlabelled_image_has_its_other_views_alone_for_positives():
    z = embeddings(2, 6, 8)
    partly, apart = torch.tensor([0, -1, 0, -1, 1, 1]), torch.tensor([0, 7, 0, 8, 1, 1])
    assert torch.equal(SupConLoss()(z, partly), SupConLoss()(z, apart))
    assert not torch.isclose(supcon_loss(z, partly), supcon_loss(z, apart))
    assert torch.equal(SupConLoss()(z, partly.to(torch.int32)), SupConLoss()(z, apart))
    assert torch.equal(SupConLoss()(z, torch.full((6,), -1)), SupConLoss()(z))


@pytest.mark.parametrize(
    ("z", "labels", "sentence"),
    [
        (torch.zeros(4, 8), None, r"must be floating-point \(\.\.\., views, batch, dim\), not torch.float32 \(4, 8\)"),
        (torch.zeros(2, 4, 8, dtype=torch.uint8), None, "not torch.uint8"),
        (torch.zeros(2, 4, 8), torch.zeros(4), "labels must be integers, not torch.float32"),
        (torch.zeros(2, 4, 8), torch.zeros(4, dtype=torch.bool), "labels must be integers, not torch.bool"),
        (torch.zeros(2, 4, 8), torch.zeros(5, dtype=torch.int64), r"labels must be \(4,\) for 4 images"),
    ],
)
def test_the_module_refuses_what_it_cannot_mean(z, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        SupConLoss()(z, labels)
    if z.ndim < 3 or (labels is not None and len(labels) != 4):  # the function only checks shapes
        with pytest.raises(ValueError, match="must be"):
            supcon_loss(z, labels)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(temperature):
    for wrong in (lambda: SupConLoss(temperature), lambda: supcon_loss(torch.zeros(2, 4, 8), None, temperature)):
        with pytest.raises(ValueError, match="temperature must be positive"):
            wrong()
