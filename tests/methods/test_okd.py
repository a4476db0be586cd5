"""Online distillation: branches, gate and ensemble against a computation by hand; the ramp-up of its KL."""

import itertools
import math

import pytest
import timm
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.study.engines.build import create_method
from toys import LABELS, draw_views, make


def test_put_together_by_hand():
    method, (view,) = make("okd", rampup_epochs=0), draw_views(1)
    net, terms = method.backbone, method(view, LABELS)
    shared = net.layer3(net.layer2(net.layer1(net.act1(net.bn1(net.conv1(view))))))
    logits = [net.fc(net.layer4(shared).mean((2, 3)))]
    logits += [fc(stage(shared).mean((2, 3))) for stage, fc in zip(method.stages, method.classifiers, strict=True)]
    linear, norm = method.gate[:2]
    gate = linear(shared.mean((2, 3)))
    gate = (gate - gate.mean(0)) / (gate.var(0, unbiased=False) + norm.eps).sqrt()
    gate = gate.clamp(min=0).softmax(1)
    ensemble = sum(gate[:, branch, None] * logits[branch] for branch in range(3))
    assert list(terms) == ["cross_entropy", "cross_entropy_2", "cross_entropy_3", "ensemble", "kd"]
    for name, one in zip(terms, [*logits, ensemble], strict=False):
        torch.testing.assert_close(terms[name], F.cross_entropy(one, LABELS))
    # As released: 1e-7 is added to the target probabilities.
    target = F.softmax(ensemble / 3, 1) + 1e-7
    kl = sum((target * (target.log() - F.log_softmax(one / 3, 1))).sum() / 8 for one in logits)
    torch.testing.assert_close(terms["kd"], 9 * kl, rtol=1e-4, atol=1e-5)
    terms["kd"].backward()  # in which the ensemble is a constant
    assert all(p.grad is None for p in method.gate.parameters())
    assert method.classifiers[0].weight.grad.abs().sum() > 0


def test_branches_start_apart():
    method = make("okd")
    first = [stage[0].conv1.weight for stage in (method.backbone.layer4, *(stage[0] for stage in method.stages))]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(first, 2))


def test_the_kl_is_ramped_up_epoch_by_epoch_and_goes_on_after_a_restart():
    whole = {"trained_on": torch.zeros(20), "rampup_epochs": 4}  # 3 batches an epoch: 8, 8, 4
    method, weights = make("okd", **whole), []
    for step in range(18):
        if step == 7:
            state = method.state_dict()
            method = make("okd", **whole)
            method.load_state_dict(state)
        weights.append(method._rampup(8 if step % 3 < 2 else 4).item())
    expected = [math.exp(-5 * max(0, 1 - epoch / 4) ** 2) for epoch in range(6) for _ in range(3)]
    assert weights == pytest.approx(expected)


def test_a_network_of_other_stages_is_refused():
    with pytest.raises(UsageError, match="ResNet or ResNetV2"):
        create_method("okd", timm.create_model("mobilenetv3_small_050", num_classes=4), 4, {})
