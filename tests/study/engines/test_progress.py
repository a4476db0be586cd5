"""Progress lines: what a log file and a terminal get to see."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cds_lib.study.engines import progress as module
from cds_lib.study.engines.progress import Progress
from cds_lib.study.tables import TABLES
from cds_lib.study.text import duration


def run(name, epochs=10):
    spec = TABLES["00_start_here"].runs("smoke", None)[1]
    return replace(spec, dataset=name, budget=replace(spec.budget, epochs=epochs))


a, b, c = (run(name) for name in "abc")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, strftime=lambda pattern: "2026-01-01 00:00:00")
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (12000, "3 h 20 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_one_line_a_finished_run_and_one_every_half_minute(clock, capsys, tmp_path):
    progress = Progress(total=4, done=1, log=tmp_path / "log.txt")
    progress.advance(a, 0)
    for second in range(1, 41):
        clock.now = float(second)
        progress.advance(a, second / 5)
    clock.now = 50.0
    progress.finish(a, "top-1 31.20 %")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        # 30 s for 6 of 10 epochs: 50 s a run, 20 s of this one and two more
        "[1/4] running: a resnet18 cds seed 0 epoch 6/10 | about 2 min 00 s left",
        f"[2/4] a resnet18 cds seed 0 ({a.id}): top-1 31.20 % in 50 s | about 1 min 40 s left",
    ]
    assert (tmp_path / "log.txt").read_text().splitlines() == [f"2026-01-01 00:00:00 {line}" for line in lines]


def test_two_at_a_time_halve_the_estimate_and_the_last_line_has_none(clock, capsys):
    progress = Progress(total=3, done=0)
    progress.advance(a, 0)
    progress.advance(b, 0)
    clock.now = 20.0
    progress.advance(b, 10)
    progress.finish(a, "done")  # two of three in 20 s
    progress.advance(c, 0)
    progress.finish(b, "done")
    clock.now = 40.0
    progress.finish(c, "FAILED: no")
    assert capsys.readouterr().out.splitlines() == [
        f"[1/3] a resnet18 cds seed 0 ({a.id}): done in 20 s | about 10 s left",
        f"[2/3] b resnet18 cds seed 0 ({b.id}): done in 20 s | about 10 s left",
        f"[3/3] c resnet18 cds seed 0 ({c.id}): FAILED: no in 20 s",
    ]


def test_a_terminal_gets_a_bar_that_is_gone_when_a_line_is_said(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = Progress(total=2, done=0)
    progress.advance(a, 0)
    progress.advance(a, 5)
    progress.finish(a, "done")
    progress.bar.close()
    out = capsys.readouterr().out
    assert "epoch 5/10" in out and out.count("\n") == 1
    assert f"\r[1/2] a resnet18 cds seed 0 ({a.id}): done in 0 s" in out and out.endswith("\r")


def test_a_run_that_was_begun_in_vain_runs_no_longer(clock, capsys):
    progress = Progress(total=3, done=0)
    for spec in (a, b):
        progress.advance(spec, 0)
    progress.requeue(b)
    progress.skip(a, "no weights")
    progress.requeue(c)  # never begun
    assert progress.running == {} and progress.done == 1
    assert f"[1/3] a resnet18 cds seed 0 ({a.id}): NOT STARTED: no weights" in capsys.readouterr().out
