"""Learning rates against torch's own schedulers and the released milestones."""

import pytest
import torch

from cds_lib.training.schedule import learning_rate

RELEASED = {"lr": 0.1, "epochs": 300, "schedule": "step", "milestones": (90, 180, 280), "warmup": 0}
COSINE = {"lr": 0.05, "epochs": 10, "schedule": "cosine", "milestones": None}


def test_released_schedule_drops_at_90_180_280():
    rates = [learning_rate(epoch * 391, 391, **RELEASED) for epoch in (0, 89, 90, 179, 180, 279, 280, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    assert learning_rate(90 * 391 - 1, 391, **RELEASED) == 0.1  # the last step of the 90th epoch


def test_cosine_equals_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=70)
    for step in range(70):
        assert learning_rate(step, 7, **COSINE, warmup=0) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warmup_rises_linearly_to_the_full_rate():
    rates = [learning_rate(step, 4, **COSINE, warmup=8) for step in range(9)]
    assert rates[:8] == pytest.approx([0.05 * (i + 1) / 8 for i in range(8)])
    assert rates[8] == pytest.approx(0.05)


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear"):
        learning_rate(0, 1, lr=1, epochs=1, schedule="linear", milestones=None, warmup=0)
