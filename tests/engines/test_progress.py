"""Progress lines: what a log file and a terminal get to see."""

from dataclasses import replace

import pytest

from cds_lib.engines import progress as module
from cds_lib.engines.progress import Progress
from cds_lib.study import settings
from cds_lib.text import duration


def run(name, epochs=10):
    spec = settings.lesson("cds", 0)
    return replace(spec, dataset=name, budget=replace(spec.budget, epochs=epochs))


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        strftime = staticmethod(lambda pattern: "2026-01-01 00:00:00")

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (12000, "3 h 20 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_one_line_a_finished_run_and_one_every_half_minute(clock, capsys, tmp_path):
    progress = Progress(total=4, done=1, jobs=1, log=tmp_path / "log.txt")
    progress.start(run("a"))
    for second in range(1, 41):
        clock.now = float(second)
        progress.advance(run("a"), second / 5)
    clock.now = 50.0
    progress.finish(run("a"), "top-1 31.20 %")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        # 30 s for 6 of 10 epochs: 50 s a run, 20 s of this one and two more
        "[1/4] running: a resnet18 cds seed 0 epoch 6/10 | about 2 min 00 s left",
        "[2/4] a resnet18 cds seed 0: top-1 31.20 % in 50 s | about 1 min 40 s left",
    ]
    assert (tmp_path / "log.txt").read_text().splitlines() == [f"2026-01-01 00:00:00 {line}" for line in lines]


def test_two_jobs_halve_the_estimate_and_the_last_line_has_none(clock, capsys):
    progress = Progress(total=3, done=0, jobs=2)
    progress.start(run("a"))
    progress.start(run("b"))
    clock.now = 20.0
    progress.finish(run("a"), "done")  # b: no pace known, taken as 20 s, which are over; the third run takes 20 s
    progress.start(run("c"))
    clock.now = 30.0
    progress.finish(run("b"), "done")
    clock.now = 40.0
    progress.finish(run("c"), "FAILED: no")
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] a resnet18 cds seed 0: done in 20 s | about 10 s left",
        "[2/3] b resnet18 cds seed 0: done in 30 s | about 15 s left",
        "[3/3] c resnet18 cds seed 0: FAILED: no in 20 s",
    ]


def test_a_terminal_gets_one_line_that_is_rewritten(clock, capsys):
    progress = Progress(total=1, done=0, jobs=1)
    progress.live = True
    progress.start(run("a", 2))
    clock.now = 1.0
    progress.advance(run("a", 2), 1)
    clock.now = 2.0
    progress.finish(run("a", 2), "done")
    out = capsys.readouterr().out
    assert out.startswith("\r[0/1] running: a resnet18 cds seed 0 epoch 1/2")
    assert out.endswith("[1/1] a resnet18 cds seed 0: done in 2 s\n")
    assert out.count("\n") == 1
