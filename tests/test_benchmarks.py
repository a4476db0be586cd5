"""The scripts in `benchmarks/` compare the same work. Speed is not tested."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cds_lib.losses import supcon_loss

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import augmentation
import contrastive_loss
import loop_cost
import released_step
import timing


def test_the_straightforward_loss_is_the_same_loss():
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(4, 2, 16, 8, generator=generator), dim=-1)
    labels = torch.randint(5, (16,), generator=generator)
    expected = torch.stack([contrastive_loss.straightforward(tap, labels) for tap in z])
    torch.testing.assert_close(supcon_loss(z, labels, contrastive_loss.TEMPERATURE), expected)


@pytest.mark.parametrize("size", augmentation.IMAGES)
def test_the_released_views_have_the_size(size):
    side = augmentation.DECODED if size == 224 else size
    image = augmentation.Image.new("RGB", (side, side))
    assert [view(image).shape for view in augmentation.released_views(size)] == [(3, size, size)] * 2


def test_the_scripts_run_and_print_a_table(monkeypatch, capsys):
    monkeypatch.setattr(timing, "WARM_UP", 0)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(loop_cost, "STEPS", 1)
    threads = torch.get_num_threads()
    timing.show("loop_cost", "a step", loop_cost.rows)
    timing.show("released_step", "a step", lambda rounds: released_step.rows(rounds, width=1 / 16))
    torch.set_num_threads(threads)
    cases = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert cases == ["| case", "| baseline", "| dsn", "| cds", "| case", "| bare passes", "| straightforward port"]


def test_the_port_learns_as_the_method_does(monkeypatch):
    """With equal views, a step of the port has the gradients of the method's own loss."""
    images, labels = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8), torch.arange(32)
    method, port = released_step._method(1 / 16), released_step._method(1 / 16)
    views = [torch.randn(3, 32, 32) for _ in range(64)]
    sum(method(torch.stack(views[:32]), torch.stack(views[32:]), labels).values()).backward()
    drawn = iter(views)
    monkeypatch.setattr(released_step, "released_views", lambda size: (lambda image: next(drawn),) * 2)
    released_step._port(port, images, labels)()
    gradients = {name: p.grad for name, p in method.named_parameters()}
    for name, p in port.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5)
