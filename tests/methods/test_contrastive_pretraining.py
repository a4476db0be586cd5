"""SupCon, BYOL and the linear classifier equal computations by hand and leave all else unchanged."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer

from cds_lib.losses import regression_loss
from cds_lib.methods.byol import BYOL
from cds_lib.methods.linear import LinearClassifier
from cds_lib.methods.supcon import SupervisedContrastive
from cds_lib.models import create_backbone
from toys import draw_views

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def network():
    torch.manual_seed(0)
    return create_backbone("resnet18", 3, width=0.125)


def byol(**options):
    method = BYOL(network(), **{"epochs": 2, "momentum": 0.9, "hidden": 16, "dimensions": 8, **options})
    method.prepare(torch.zeros(16))
    return method.train()


def steps(method, count, lr=0.05):
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    losses = []
    for _ in range(count):
        losses.append(sum(method(*draw_views(method.views), labels=LABELS).values()))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    return [loss.item() for loss in losses]


def test_regression_loss_is_the_squared_distance_of_unit_vectors():
    random = np.random.default_rng(0)
    q, z = random.normal(size=(2, 5, 4))
    unit_q, unit_z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, z))
    expected = np.mean(np.sum((unit_q - unit_z) ** 2, axis=1))
    assert regression_loss(torch.from_numpy(q), torch.from_numpy(z)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("base", [None, 0.07])
def test_supcon_is_that_of_pytorch_metric_learning_on_its_projections(base):
    method = SupervisedContrastive(network(), temperature=0.1, base_temperature=base).train()
    with torch.no_grad():
        (loss,) = method(*draw_views(2), LABELS).values()
        images = torch.cat(draw_views(2))
        z = F.normalize(method.head(method.backbone.forward_features(images).mean((2, 3))), dim=1)
    expected = SupConLoss(temperature=0.1, reducer=MeanReducer())(z, LABELS.repeat(2))
    assert loss.item() == pytest.approx((0.1 / base if base else 1) * expected.item(), rel=1e-5)


@pytest.mark.parametrize("method", [SupervisedContrastive(network()), byol()], ids=["supcon", "byol"])
def test_pre_training_learns_and_never_touches_the_classifier(method):
    before, losses = method.backbone.fc.weight.clone(), steps(method, 12)
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(method.backbone.fc.weight, before) and method.backbone.fc.weight.grad is None
    assert not method.classifies


def test_the_linear_classifier_is_all_that_learns():
    net = network().train()
    with torch.no_grad():
        for _ in range(30):
            net(draw_views(2)[0])  # running statistics like those of a trained network
    method = LinearClassifier(net).train()
    assert not method.backbone.training
    before = {name: value.clone() for name, value in method.state_dict().items()}
    losses = steps(method, 20, lr=0.05)
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}
    view, _ = draw_views(2)
    with torch.no_grad():
        expected = F.cross_entropy(method.backbone(view), LABELS)
    torch.testing.assert_close(method(view, LABELS)["cross_entropy"], expected)


def test_byols_target_is_the_average_by_hand():
    method = byol()
    parameters = [*method.backbone.parameters(), *method.projector.parameters()]
    expected = [p.detach().clone() for p in parameters]
    for step in range(4):
        method(*draw_views(2, seed=step), labels=LABELS)["regression"].backward()
        # Before the forward pass of this step, the target moved towards the online network of the last step.
        for target, value in zip(method.target.parameters(), expected, strict=True):
            torch.testing.assert_close(target, value)
            assert target.grad is None
        with torch.no_grad():
            for p in parameters:
                p -= 0.1 * p.grad if p.grad is not None else 0
                p.grad = None
        momentum = 1 - 0.1 * (math.cos(math.pi * 8 * (step + 1) / 32) + 1) / 2
        expected = [momentum * old + (1 - momentum) * new for old, new in zip(expected, parameters, strict=True)]


def test_byol_treats_its_views_alike():
    (one,), (other,) = (byol()(*pair, labels=LABELS).values() for pair in (draw_views(2), draw_views(2)[::-1]))
    torch.testing.assert_close(one, other)


def test_byols_state_holds_the_target_and_its_schedule():
    first, rest = byol(), byol()
    steps(first, 2)
    rest.load_state_dict(first.state_dict())
    assert rest.images_seen == 16
    with torch.no_grad():
        (a,), (b,) = (m(*draw_views(2, seed=7), labels=LABELS).values() for m in (first, rest))
    assert torch.equal(a, b) and not any(p.requires_grad for p in rest.target.parameters())
