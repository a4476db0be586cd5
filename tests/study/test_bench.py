"""The benchmarks: variants do the same work, turns are fair, results are kept. How fast anything is, is not tested."""

import json
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from cds_lib.errors import RunError
from cds_lib.files import is_locked
from cds_lib.losses import supcon_loss
from cds_lib.study.bench import (
    augmentation,
    cli,
    contrastive_loss,
    growth,
    jobs,
    loop_cost,
    method_cost,
    released_step,
    start,
    timing,
)
from cds_lib.study.bench.timing import Row
from cds_lib.study.cli import main
from cds_lib.study.engines.progress import Progress


def test_variants_are_called_in_turn_and_warmed_up():
    calls = []
    timing.interleaved(lambda: calls.append("ours"), lambda: calls.append("reference"), 4)
    assert calls == ["ours", "reference"] * (4 + timing.WARM_UP)


def test_a_call_may_say_which_of_its_seconds_count():
    said = iter([9.0] * timing.WARM_UP + [1.0, 5.0, 3.0])
    ours, reference = timing.interleaved(lambda: next(said), lambda: [9.0], 3)
    assert ours == 3.0 and 0 < reference < 1.0


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


@pytest.mark.parametrize("name", method_cost.MEASURED)
def test_the_bare_passes_are_differentiable_networks_of_the_method(name):
    torch.manual_seed(0)
    method = method_cost.build(name)
    views = tuple(torch.randn(4, 3, 16, 16) for _ in range(method.views))
    outputs = [output for output in method_cost.bare(method, name, views) if output.requires_grad]
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    missed = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not any(key.startswith("backbone.layer") for key in missed)  # classifiers of heads are left out


def test_a_bare_step_leaves_no_gradient(tmp_path):
    loop, bare = loop_cost._epochs("cds", tmp_path / "checkpoint.pt")
    loop()
    assert callable(bare) and not list(tmp_path.iterdir())


def test_growth_is_measured_against_the_first_case_of_each_kind(monkeypatch):
    built = []

    def case(what):
        return lambda **sizes: built.append((what, sizes)) or (lambda: None)

    monkeypatch.setattr(growth, "loss", case("loss"))
    monkeypatch.setattr(growth, "step", case("step"))
    rows = list(growth.rows(1))
    assert len(rows) == (4 + 3 + 2) + (3 + 3 + 2 + 2)
    assert rows[0].case == "loss, batch 128 against 64" and rows[-1].case == "step, size 64 against 16"
    assert built[0] == ("loss", {"batch": 64, "taps": 4, "classes": 100})
    assert built[-1] == ("step", {"batch": 64, "taps": 4, "classes": 100, "size": 64})


def test_the_cases_of_growth_do_what_they_say():
    growth.loss(batch=8, taps=2, classes=3)()
    torch.manual_seed(0)
    small, large = growth.step(batch=2, taps=1, classes=3, size=16), growth.step(batch=2, taps=4, classes=3, size=16)
    macs = []
    for call in (small, large):
        with FlopCounterMode(display=False) as counter:
            call()
        macs.append(counter.get_total_flops())
    assert macs[0] < macs[1]  # three heads more


def test_the_runs_of_jobs_are_trained_whatever_their_number_at_a_time(monkeypatch):
    some = [replace(s, budget=replace(s.budget, train_size=100, epochs=1)) for s in jobs.specs(2)]
    assert len({run.id for run in some}) == 2
    seen = []
    monkeypatch.setattr(jobs, "Progress", lambda *a: seen.append(Progress(*a)) or seen[-1])
    jobs.train(some, 2)
    assert seen[0].done == 2
    broken = [replace(some[0], method="none")]
    with pytest.raises(RunError, match="A run of the benchmark failed: The study has no method 'none'"):
        jobs.train(broken, 1)


def test_the_start_is_waited_for_and_nothing_is_left_running(tmp_path):
    start.start(tmp_path / "r")
    (history,) = (tmp_path / "r").glob("runs/*/history.csv")
    assert len(history.read_text().splitlines()) >= 2
    deadline = time.monotonic() + 60
    while is_locked(tmp_path / "r" / ".lock") or is_locked(history.parent / ".lock"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_notebook_takes_longer_than_its_cells(tmp_path):
    seconds, cells = start.notebook(start.committed(tmp_path / "mini"))
    assert 0 < cells < seconds


def test_a_released_step_is_measured_against_the_bare_passes_and_the_port():
    cases = [row.case for row in released_step.rows(1, width=1 / 16) if row.ours > 0 and row.reference > 0]
    assert cases == ["bare passes", "straightforward port"]


def test_the_port_learns_as_the_method_does():
    """One step of plain SGD on the gradients of the method's own loss, with equal views, moves the weights alike."""
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8), torch.arange(32)
    method, port = released_step._method(1 / 16), released_step._method(1 / 16)
    views = [torch.randn(3, 32, 32) for _ in range(64)]
    sum(method(torch.stack(views[:32]), torch.stack(views[32:]), labels).values()).backward()
    drawn = iter(views)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(released_step, "released_views", lambda size: (lambda image: next(drawn),) * 2)
        released_step._port(port, images, labels)()
    gradients = {name: p.grad for name, p in method.named_parameters()}
    for name, p in port.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5)


def test_results_are_printed_and_kept_and_others_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contrastive_loss, "rows", lambda rounds: [Row("contrastive_loss", "2x64 views", 0.002, 0.004)])
    monkeypatch.setattr(jobs, "rows", lambda rounds: [Row("jobs", "4 runs", 1.0, 1.9)])
    threads = torch.get_num_threads()
    for name in ("jobs", "contrastive_loss"):
        assert main(["bench", name, "--out", str(tmp_path / "new")]) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "| 2x64 views | 2.00 | 4.00 | 0.500 |" in printed
    kept = json.loads((tmp_path / "new" / "bench.json").read_text())["benchmarks"]
    assert list(kept) == ["contrastive_loss", "jobs"]  # in the usual order
    assert kept["contrastive_loss"]["rows"] == [
        {"benchmark": "contrastive_loss", "case": "2x64 views", "ours": 0.002, "reference": 0.004, "ratio": 0.5}
    ]
    assert kept["jobs"]["machine"]["torch"] == torch.__version__ and kept["jobs"]["rounds"] >= cli.MIN_ROUNDS
    page = (tmp_path / "new" / "bench.md").read_text()
    assert "| 2x64 views | 2.00 | 4.00 | 0.500 |" in page and "| 4 runs | 1000.00 | 1900.00 | 0.526 |" in page


def test_what_was_measured_is_kept_when_the_next_benchmark_fails(tmp_path, monkeypatch):
    def broken(rounds):
        raise RuntimeError("stopped")

    monkeypatch.setattr(contrastive_loss, "rows", lambda rounds: [Row("contrastive_loss", "2x64 views", 0.002, 0.004)])
    monkeypatch.setattr(jobs, "rows", broken)
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stopped"):
        main(["bench", "jobs", "contrastive_loss", "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    assert list(json.loads((tmp_path / "bench.json").read_text())["benchmarks"]) == ["contrastive_loss"]
    (tmp_path / "bench.json").write_text("[]")
    assert main(["bench", "jobs", "--out", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("words", "says"), [(["speed"], "Unknown benchmark 'speed': choose from aug"), (["--rounds", "3"], "at least 20")]
)
def test_what_cannot_be_measured_is_one_sentence(words, says, capsys):
    assert main(["bench", *words]) == 2
    assert says in capsys.readouterr().err
