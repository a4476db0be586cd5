"""Learning rates against torch's own schedulers and the released milestones."""

from dataclasses import replace

import pytest
import torch

from cds_lib.study.plan import protocols
from cds_lib.training.schedule import learning_rate

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
