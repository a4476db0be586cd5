"""`benchmarks/gpu.py` runs at small scale on the CPU, and each of its checks can fail."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import arms
import gpu
import visit
from cds_lib.augment.padded import PaddedView
from cds_lib.losses import supcon_loss
from cds_lib.models import create_backbone
from cds_lib.study.engines import build
from cds_lib.study.plan import protocols, rematch

pytestmark = pytest.mark.xdist_group("gpu_visit")  # large groups start first


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs some checks and returns the exit code, the results and the output."""

    def run(checks, *options):
        monkeypatch.setattr(gpu, "CHECKS", tuple((check, 0) for check in checks))
        code = gpu.main(["--device", "cpu", "--small", *options])
        printed = capsys.readouterr().out
        return code, [json.loads(line) for line in printed.splitlines() if line.startswith('{"check"')], printed

    return run


def missed(results):
    return {result["check"] for result in results if result.get("ok") is False}


@pytest.fixture
def sheets(tmp_path):
    """Write a packed CIFAR with one training and one test sheet; return the folder and the training images."""
    images = np.random.default_rng(0).integers(0, 256, (1000, 3, 32, 32), np.uint8)
    sheet = images.reshape(40, 25, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(40 * 32, 25 * 32, 3)
    for part in ("train", "test"):
        Image.fromarray(sheet).save(tmp_path / f"{part}_00.png")
    np.savez(tmp_path / "labels.npz", y_train=np.arange(2000) % 100, y_test=np.arange(1000) % 100)
    return tmp_path, images


@pytest.mark.slow
def test_everything_runs_and_passes(run, sheets, server, monkeypatch):
    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda kind: server)  # five processes without imports
    checks = [check for check, _ in gpu.CHECKS]
    code, results, printed = run(checks, "--data", str(sheets[0]))
    assert not missed(results), printed
    assert code == 0 and not any(result["what"] == "not run" for result in results)
    assert sum("ok" in result for result in results) > 20
    assert any("shortened schedule: 2 of 300 epochs" in result["check"] for result in results)
    assert f"PyTorch {torch.__version__}" in printed and "1,000" not in printed  # only a part of the images is used


def test_a_loss_that_is_wrong_is_exit_code_1(run, monkeypatch):
    assert run([gpu.check_loss])[0] == 0
    monkeypatch.setattr(gpu, "supcon_loss", lambda z, labels: 1.00005 * supcon_loss(z, labels))
    code, results, printed = run([gpu.check_loss])
    assert code == 1 and len(missed(results)) == printed.count("**missed**") == 1  # the gradient may be that far off


def test_pixels_that_differ_are_exit_code_1(run, monkeypatch):
    apply, calls = PaddedView.apply, []

    def brighter(self, images, params, size):
        calls.append(size)
        return apply(self, images, params, size) + 0.02 * (len(calls) == 2)  # view 1 on the device

    monkeypatch.setattr(PaddedView, "apply", brighter)
    code, results, _ = run([gpu.check_views])
    assert code == 1 and missed(results) == {"CIFAR view 1"}


def test_a_training_that_goes_on_otherwise_is_exit_code_1(run, monkeypatch):
    fit, calls = gpu.fit, []

    def other(*arguments, **named):
        calls.append(1)
        rows = fit(*arguments, **named)
        return [{**row, "train_loss": row["train_loss"] * (1 + 1e-6 * (len(calls) == 3))} for row in rows]

    monkeypatch.setattr(gpu, "fit", other)
    code, results, _ = run([gpu.check_resume])
    assert code == 1 and [r["what"] for r in results if r.get("ok") is False] == ["loss of epoch 2 when resumed"]


def test_losses_that_are_not_finite_are_exit_code_1(run, monkeypatch):
    monkeypatch.setattr(gpu, "loss_of", lambda step, batch: torch.tensor(float("nan")))
    code, results, _ = run([gpu.check_steps, gpu.check_precision])
    assert code == 1 and missed(results) == {"baseline, eager", "cds_released, eager", "precision"}


def test_a_check_that_breaks_is_reported_and_the_next_one_runs(run):
    def check_nothing(visit):
        raise RuntimeError("no such kernel\nand a traceback")

    code, results, _ = run([check_nothing, gpu.check_loss])
    assert code == 1 and missed(results) == {"nothing"} and len(results) > 1
    assert results[0]["what"] == "broke (RuntimeError: no such kernel)"


def test_what_no_longer_fits_and_what_needs_images_is_not_run(run, monkeypatch):
    code, results, printed = run([gpu.check_loss], "--minutes", "0")
    assert code == 0 and [result["what"] for result in results] == ["not run"] and "| loss | not run |" in printed
    assert [result["what"] for result in run([gpu.train_pair])[1]] == ["not run"]


def test_sheets_are_read_image_by_image(sheets):
    folder, images = sheets
    (train, labels, test, _), _ = visit.load(folder, torch.device("cpu"), small=False)
    assert np.array_equal(train.numpy(), images) and np.array_equal(test.numpy(), images)
    assert labels.tolist() == [number % 100 for number in range(1000)]


def test_without_a_gpu_or_images_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2 and "--device cpu" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu", "--small", "--data", str(tmp_path)]) == 2
    assert "data fetch cifar100" in capsys.readouterr().err


def test_what_is_trained_is_what_the_study_trains():
    paper = protocols.budget("paper", "cifar", "resnet18")
    assert {name: getattr(paper, name) for name in asdict(arms.Budget())} == asdict(arms.Budget())
    shortened = arms.Budget().shortened(10)
    assert (shortened.epochs, shortened.milestones, shortened.eval_every) == (30, (9, 18, 28), 30)
    assert arms.PAIR == rematch.PRIMARY
    for name in arms.ARMS:
        spec = rematch.as_released("paper", name)
        ours = arms.create(name, arms.Budget(width=1 / 16))
        theirs = build.create_method(spec.method, create_backbone("resnet18", 100, width=1 / 16), 100, spec.options)
        described = [{k: v for k, v in vars(m).items() if not k.startswith("_")} for m in (ours, theirs)]
        assert type(ours) is type(theirs) and ours.views == theirs.views and described[0] == described[1]


def test_it_needs_the_library_alone():
    """Check the imports of its files. `test_house` and `test_wheel` check that the library imports no study module."""
    for module in (gpu, arms, visit):
        text = Path(module.__file__).read_text(encoding="utf-8")
        assert "from cds_lib" in text and not re.search(r"^(from|import) cds_lib.*\bstudy\b", text, re.M)
