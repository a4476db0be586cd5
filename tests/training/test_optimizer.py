"""Which parameters are trained, and how; learning rates equal torch's schedulers and released milestones."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cds_lib.study.plan import protocols
from cds_lib.training.optimizer import make_optimizer
from cds_lib.training.schedule import learning_rate


def budget(**changes):
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "optimizer": None, "new_lr_factor": None}
    return SimpleNamespace(**{**values, **changes})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def step(method, optimizer):
    method(torch.randn(8, 3, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    optimizer.step()
    return {name: before[name] - p.detach() for name, p in method.named_parameters()}, before, gradients


def test_sgd_decays_every_parameter_as_released():
    method = network()
    moved, before, gradients = step(method, make_optimizer(method, budget()))
    for name, change in moved.items():
        torch.testing.assert_close(change, 0.1 * (gradients[name] + 0.01 * before[name]))


def test_what_is_new_learns_faster_and_what_is_frozen_not_at_all():
    method = network()
    method[1].requires_grad_(False)
    optimizer = make_optimizer(method, budget(new_lr_factor=10.0), pretrained={"0.weight", "0.bias", "1.weight"})
    factors = {group["lr_factor"]: len(group["params"]) for group in optimizer.param_groups}
    assert factors == {1.0: 2, 10.0: 2}
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["lr_factor"]
    moved, before, gradients = step(method, optimizer)
    torch.testing.assert_close(moved["2.weight"], 1.0 * (gradients["2.weight"] + 0.01 * before["2.weight"]))
    torch.testing.assert_close(moved["0.weight"], 0.1 * (gradients["0.weight"] + 0.01 * before["0.weight"]))
    assert not moved["1.weight"].any()


def test_lars_scales_the_step_of_a_matrix_by_its_norm_and_leaves_vectors_alone():
    method = network()
    moved, before, gradients = step(method, make_optimizer(method, budget(optimizer="lars")))
    torch.testing.assert_close(moved["1.bias"], 0.1 * gradients["1.bias"])  # no weight decay and no adaptation
    norm, slope = before["2.weight"].norm(), gradients["2.weight"].norm()
    trust = 0.001 * norm / (slope + 0.01 * norm)
    wanted = 0.1 * trust * (gradients["2.weight"] + 0.01 * before["2.weight"])
    torch.testing.assert_close(moved["2.weight"], wanted, rtol=1e-4, atol=1e-8)


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="adam"):
        make_optimizer(network(), budget(optimizer="adam"))


def test_an_overflow_in_the_first_step_changes_nothing_after_it():
    """The fused kernel skips this step by itself; its momentum must not be uninitialised memory."""
    trained = []
    for overflows in (False, True):
        method = network()
        optimizer, scaler = make_optimizer(method, budget()), torch.amp.GradScaler("cpu", init_scale=4.0)
        for overflow in [True] * overflows + [False, False]:
            inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
            scaler.scale(method[0](inputs).square().sum() * (torch.inf if overflow else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        trained.append([method[0].weight, method[0].bias])
    for plain, after_overflow in zip(*trained, strict=True):
        assert torch.equal(plain, after_overflow)


# -- learning rates ----------------------------------------------------------------------------------------------------


RELEASED = protocols.budget("paper", "cifar", "resnet18")
COSINE = replace(RELEASED, lr=0.05, epochs=10, schedule="cosine", milestones=None)


def test_released_schedule_drops_at_90_180_280():
    rates = [learning_rate(epoch * 391, 391, RELEASED) for epoch in (0, 89, 90, 179, 180, 279, 280, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    assert learning_rate(90 * 391 - 1, 391, RELEASED) == 0.1  # the last step of the 90th epoch


def test_cosine_equals_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=70)
    for step in range(70):
        assert learning_rate(step, 7, COSINE) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warmup_rises_linearly_to_the_full_rate():
    for warmup in ({"warmup_steps": 8}, {"warmup_epochs": 2}):
        rates = [learning_rate(step, 4, replace(COSINE, **warmup)) for step in range(9)]
        assert rates[:8] == pytest.approx([0.05 * (i + 1) / 8 for i in range(8)])
        assert rates[8] == pytest.approx(0.05)


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear"):
        learning_rate(0, 1, replace(COSINE, schedule="linear"))
