"""Progress lines: what a log file and a terminal get to see."""

from dataclasses import replace

import pytest

from cds_lib.study.engines import progress as module
from cds_lib.study.engines.progress import Progress
from cds_lib.study.tables import TABLES
from cds_lib.study.text import duration


def run(name, epochs=10):
    spec = TABLES["00_start_here"].runs("smoke", None)[1]
    return replace(spec, dataset=name, budget=replace(spec.budget, epochs=epochs))


a, b, c = (run(name).id for name in "abc")


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
        f"[2/4] a resnet18 cds seed 0 ({a}): top-1 31.20 % in 50 s | about 1 min 40 s left",
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
        f"[1/3] a resnet18 cds seed 0 ({a}): done in 20 s | about 10 s left",
        f"[2/3] b resnet18 cds seed 0 ({b}): done in 30 s | about 15 s left",
        f"[3/3] c resnet18 cds seed 0 ({c}): FAILED: no in 20 s",
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
    assert out.endswith(f"[1/1] a resnet18 cds seed 0 ({run('a', 2).id}): done in 2 s\n")
    assert out.count("\n") == 1


def shown(out, columns):
    """The rows that a terminal of this width shows of what was printed."""
    rows, column = [""], 0
    for character in out:
        if character == "\r":
            column = 0
            continue
        if character == "\n" or column == columns:
            rows.append("")
            column = 0
        if character != "\n":
            rows[-1] = rows[-1][:column] + character + rows[-1][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_the_live_line_leaves_nothing_behind_in_a_narrow_terminal(columns, clock, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = Progress(total=3, done=0, jobs=3)
    progress.live = True
    runs = [run(name, 2) for name in ("a" * 30, "b" * 30, "c" * 30)]
    for one in runs:
        progress.start(one)
    for second, one in enumerate(runs, 1):
        clock.now = float(second)
        progress.advance(one, 1)
    assert len(shown(capsys.readouterr().out, columns)) == 1
    for one in runs:
        clock.now += 1
        progress.tick()
        progress.finish(one, "done")
    *rows, last = shown(capsys.readouterr().out, columns)
    assert last == ""
    assert [row.split()[0] for row in rows if row.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert not [row for row in rows if "running" in row]


def test_a_run_that_was_begun_in_vain_runs_no_longer(clock, capsys):
    progress = Progress(total=2, done=0, jobs=0)
    progress.start(run("a"))
    progress.start(run("b"))
    progress.requeue(run("b"))
    progress.skip(run("a"), "no weights")
    progress.requeue(run("c"))  # never begun
    clock.now = 100.0
    progress.tick()
    assert capsys.readouterr().out == f"[1/2] a resnet18 cds seed 0 ({a}): NOT STARTED: no weights\n"


def test_runs_that_end_together_do_not_stretch_the_time_left(clock, capsys):
    """Where it is not known how many run at a time, as on Slurm: those that ended make room for as many."""
    progress = Progress(total=8, done=0, jobs=0)
    runs = [run(name) for name in "abcd"]
    for one in runs:
        progress.start(one)
    clock.now = 60.0
    for one in runs:
        progress.finish(one, "done")
    assert capsys.readouterr().out.splitlines()[-1].endswith("| about 1 min 00 s left")
