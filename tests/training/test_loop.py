"""The training loop: optimisation, exact resume, clear failures, precision, compilation."""

import math
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from cds_lib import CDS
from cds_lib.errors import TrainingError
from cds_lib.methods.method import Method
from cds_lib.training import loop
from cds_lib.training.loop import fit
from toys import generator, make_budget

CPU = torch.device("cpu")
TIMINGS = {"seconds", "images_per_second"}


class Noise:
    """Two views of random images that depend only on the epoch; the last batch is smaller."""

    def __init__(self, *sizes):
        self.sizes = sizes or (8, 8, 4)

    def __len__(self):
        return len(self.sizes)

    def epoch(self, epoch):
        drawn = generator(epoch)
        for size in self.sizes:
            views = tuple(torch.randn(size, 3, 8, 8, generator=drawn) for _ in range(2))
            yield views, torch.arange(size) % 4, torch.arange(size)


class Dropped(Method):
    """A method that draws random numbers in training, so that resuming must restore the generator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.method = CDS("test_resnet", num_classes=4)
        self.backbone = self.method.backbone

    def losses(self, *views, labels):
        return self.method(*(nn.functional.dropout(view, 0.1) for view in views), labels=labels)


def checksum(backbone):
    return {"test_top1": 50.0, "test_loss": sum(p.detach().double().sum().item() for p in backbone.parameters())}


def train(path, on_epoch=lambda rows: None, method=None, batches=None, spec=None, stop_after=None, **changes):
    """Return the method and its rows. Changes about compiling go to the loop, all others to the budget."""
    method = method or Dropped()
    compiling = {name: changes.pop(name) for name in ("compile_method", "on_compiled") if name in changes}
    path.mkdir(exist_ok=True)
    torch.manual_seed(11)
    rows = fit(
        method,
        batches or Noise(),
        checksum,
        make_budget(**changes),
        device=CPU,
        checkpoint_path=path / "c.pt",
        on_epoch=on_epoch,
        spec=spec,
        stop_after=stop_after,
        **compiling,
    )
    return method, [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def test_stopped_early_is_the_beginning_of_the_whole_training_and_can_go_on(tmp_path):
    whole, rows = train(tmp_path / "whole")
    _, first = train(tmp_path / "stopped", stop_after=1)
    assert first == rows[:1] and first[0]["lr"] == pytest.approx(0.05)  # from a cosine over four epochs
    torch.rand(5)  # another process would have another generator state
    stopped, all_rows = train(tmp_path / "stopped", stop_after=9)
    assert all_rows == rows
    for key, value in whole.state_dict().items():
        assert torch.equal(stopped.state_dict()[key], value), key


def test_where_checkpoints_are_apart_one_is_written_at_the_end_and_resuming_is_exact(tmp_path, monkeypatch):
    monkeypatch.setitem(loop._SECONDS_BETWEEN_CHECKPOINTS, "cpu", math.inf)
    saved, save = [], loop.checkpoint.save
    spy = Mock(side_effect=lambda path, state: (saved.append(len(state["rows"])), save(path, state)))
    monkeypatch.setattr(loop.checkpoint, "save", spy)
    _, whole = train(tmp_path / "whole")
    train(tmp_path, stop_after=3)
    _, rows = train(tmp_path)
    assert saved == [4, 3, 4] and rows == whole


def test_minimises_the_sum_of_the_terms_as_torch_sgd_does(tmp_path):
    trained, rows = train(tmp_path, epochs=1, warmup_epochs=0, schedule="step", milestones=())
    oracle = Dropped()
    torch.manual_seed(11)
    oracle.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    sums, count = {}, 0
    for views, labels, _ in Noise().epoch(0):
        losses = oracle(*views, labels=labels)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        count += len(labels)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.item() * len(labels)
    for key, value in oracle.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    for name, total in sums.items():
        assert rows[0][f"train_{name}"] == pytest.approx(total / count, rel=1e-4)
    assert rows[0]["train_loss"] == pytest.approx(sum(sums.values()) / count, rel=1e-4)


@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_a_long_gradient_is_scaled_down_and_a_short_one_stays(tmp_path, monkeypatch, scale):
    """In plain gradient descent the step is the gradient. Clipping must come after undoing the loss scale."""

    class Scaled(loop.Precision):
        def __init__(self, name, device):
            super().__init__(name, device)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)

    def step(clip_norm):
        plain = {"epochs": 1, "warmup_epochs": 0, "schedule": "step", "milestones": (), "momentum": 0.0}
        trained, _ = train(
            tmp_path / str(clip_norm), batches=Noise(8), weight_decay=0.0, lr=0.5, clip_norm=clip_norm, **plain
        )
        before = dict(Dropped().named_parameters())
        return torch.cat([(value - before[name]).flatten() for name, value in trained.named_parameters()])

    monkeypatch.setattr(loop, "Precision", Scaled)
    free, short, clipped = step(None), step(1e4), step(0.25)
    assert torch.equal(free, short) and free.norm() > 0.5 * 0.25
    torch.testing.assert_close(clipped, free * (0.5 * 0.25 / free.norm()), rtol=1e-3, atol=1e-6)


def test_evaluates_every_so_often_and_at_the_end(tmp_path):
    _, rows = train(tmp_path, epochs=5, eval_every=2)
    assert [row["epoch"] for row in rows if "test_top1" in row] == [2, 4, 5]


class Breaking(Method):
    """A method whose second term becomes NaN in the second step of epoch 2."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.calls = 0

    def losses(self, *views, labels):
        self.calls += 1
        zero = self.backbone.weight.sum() * 0
        return {"cross_entropy": zero + 1.0, "contrastive_2": zero + (float("nan") if self.calls == 5 else 2.0)}


def test_a_loss_that_is_not_finite_names_epoch_step_and_term(tmp_path):
    with pytest.raises(TrainingError, match=r"'contrastive_2' became nan in epoch 2, step 2 of 3"):
        train(tmp_path, method=Breaking())
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    assert [row["epoch"] for row in saved["rows"]] == [1]
    assert all(torch.isfinite(value).all() for value in saved["method"].values())


@pytest.mark.parametrize("written", ["this run", None])  # None: written by version 0.1.0
@pytest.mark.parametrize("changes", [{"spec": "another run"}, {"spec": "this run", "epochs": 3}])
def test_a_checkpoint_of_another_run_or_of_more_epochs_is_refused(tmp_path, written, changes):
    _, rows = train(tmp_path, spec=written)
    if written or "epochs" in changes:
        with pytest.raises(TrainingError, match=r"c\.pt belongs to another training: delete it"):
            train(tmp_path, **changes)
    assert train(tmp_path, spec="this run")[1] == rows


def test_bf16_autocast_trains_with_float32_losses_and_weights(tmp_path):
    trained, rows = train(tmp_path, batches=Noise(8), precision="amp", epochs=1)
    assert all(p.dtype == torch.float32 for p in trained.parameters())
    _, full = train(tmp_path / "fp32", batches=Noise(8), epochs=1)
    assert rows[0]["train_loss"] == pytest.approx(full[0]["train_loss"], rel=0.02)
    assert rows[0]["train_loss"] != full[0]["train_loss"]


@pytest.mark.parametrize("first", [torch.bfloat16, torch.float16])
def test_a_run_goes_on_where_the_device_computes_in_another_precision(tmp_path, monkeypatch, first):
    """A queue may move a run to an older GPU, where float16 has a loss scaler whose state bfloat16 lacks."""

    class OnAnother(loop.Precision):
        def __init__(self, name, device):
            super().__init__("fp32", device)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=name == torch.float16)

    def stop(rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "Precision", lambda name, device: OnAnother(first, device))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_epoch=stop)
    second = torch.float16 if first == torch.bfloat16 else torch.bfloat16
    monkeypatch.setattr(loop, "Precision", lambda name, device: OnAnother(second, device))
    _, rows = train(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def compiled(path, monkeypatch, backend, method=None, **changes):
    """Return method, rows and messages of a training whose graphs go to this backend."""
    real_compile, said = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda module, **options: real_compile(module, backend=backend, **options))
    found = train(path, method=method, epochs=1, compile_method=True, on_compiled=said.append, **changes)
    return *found, said


def test_the_compiled_step_is_the_same_step(tmp_path, monkeypatch):
    """Graphs are captured as for a GPU but run with torch's own kernels, because compiling takes too long here."""
    _, rows, said = compiled(tmp_path, monkeypatch, "eager", precision="amp")
    assert said == ["batches of 8: compiled", "batches of 8: compiled; batches of 4: compiled"]
    _, eager = train(tmp_path / "eager", epochs=1, precision="amp")
    assert rows[0]["train_loss"] == pytest.approx(eager[0]["train_loss"], rel=1e-3)
    assert not any(key.startswith("_orig_mod") for key in torch.load(tmp_path / "c.pt", weights_only=True)["method"])


def test_a_method_that_says_so_is_not_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(Breaking, "compiles", False)
    assert compiled(tmp_path, monkeypatch, "eager", Breaking())[2] == []


def test_a_step_that_cannot_be_compiled_is_computed_as_it_is_and_it_is_said_why(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here\nand a traceback")

    _, rows, said = compiled(tmp_path, monkeypatch, broken)
    assert "no compiler here)" in said[-1] and "traceback" not in said[-1]
    assert rows == train(tmp_path / "eager", epochs=1)[1]
