"""Which runs have to be trained, and how the runner calls any engine."""

import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cds_lib.study import cli
from cds_lib.study.commands import study
from cds_lib.study.engines import progress as module
from cds_lib.study.engines import runner
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.files import is_locked
from cds_lib.study.plan import settings
from cds_lib.study.plan.table import Table, cell
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.table6_finegrained import finetuned
from cds_lib.study.text import duration
from run_folders import top1, write_run


def spec(seed, **changes):
    return replace(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), **changes)


def plan(*missing):
    return runner.Plan((), missing, ())


class Elsewhere:
    """A third engine, which trains nothing. It records its calls and whether the store is locked meanwhile."""

    def __init__(self, stopped=False):
        self.stopped, self.asked = stopped, []

    def run(self, specs, store, data_root, progress, release):
        for what in ("submit", "wait"):
            held = "held" if is_locked(store.root / ".lock") else "free"
            self.asked.append((what, held, [spec.seed for spec in specs]))
            release()
        if self.stopped:
            raise KeyboardInterrupt
        return {spec.id: "The loss became nan." for spec in specs[:1]}


# -- plans -------------------------------------------------------------------------------------------------------------


def test_plans_sort_runs_by_state(store, tmp_path):
    table = TABLES["00_start_here"]
    first, second = table.runs("smoke", (0,))
    (store.run_dir(first.id)).mkdir(parents=True)
    (store.run_dir(first.id) / "metrics.json").write_text("{}")
    store.write_status(second.id, state="failed", error="no")
    plan = runner.make_plan([table, table], "smoke", (0,), store, retry_failed=False)
    assert (plan.done, plan.missing, plan.failed) == ((first,), (), (second,))
    assert plan.describe() == "2 runs: 1 done, 0 to train, 1 failed before (--retry-failed tries them again)"
    assert runner.make_plan([table], "smoke", (0,), store, retry_failed=True).missing == (second,)
    assert runner.train_missing(plan, store, tmp_path, Elsewhere()) == {}


def test_a_plan_counts_what_is_trained_again_for_its_weights(tmp_path, capsys):
    """This happens in a clone, since committed results have no weights."""
    store, child = Store(tmp_path), finetuned("smoke", "cub200", "resnet50", "cds", "finetune", 0)
    write_run(store, child.parent, top1(5.0), {"state": "done"})
    table = Table("One", "?", lambda profile: [cell(child, (0,))])
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 0 done, 2 to train (1 of them again, for weights that others start from)"
    store.model(child.parent.id).touch()  # as if another command has trained it
    runner.train_missing(plan, store, tmp_path, Elsewhere())
    assert capsys.readouterr().out.startswith("2 runs: 1 done, 1 to train.\n")
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 1 done, 1 to train"
    store.model(child.parent.id).unlink()
    write_run(store, child, top1(5.0), {"state": "done"})  # no missing run starts from these weights
    assert runner.make_plan([table], "smoke", (0,), store, retry_failed=False).done == child.lineage


# -- engines -----------------------------------------------------------------------------------------------------------


def test_the_store_is_held_until_the_engine_lets_it_go(tmp_path, capsys):
    engine, store = Elsewhere(), Store(tmp_path)
    runs = [spec(0), spec(1), spec(2)]
    failed = runner.train_missing(plan(*runs), store, tmp_path, engine)
    assert failed == {runs[0].id: "The loss became nan."}
    assert engine.asked == [("submit", "held", [0, 1, 2]), ("wait", "free", [0, 1, 2])]
    first, last = capsys.readouterr().out.splitlines()
    assert first == "3 runs: 0 done, 3 to train." and last.startswith("Trained 2 runs, 1 failed; ")


@pytest.mark.parametrize("left", [[1], []])
def test_a_second_command_waits_and_trains_what_the_first_has_left(left, tmp_path, capsys):
    engine, store = Elsewhere(), Store(tmp_path)
    store.open_for_writing()
    second = threading.Thread(target=runner.train_missing, args=(plan(spec(0), spec(1)), store, tmp_path, engine))
    with store.lock():
        second.start()
        said, end = "", time.monotonic() + 20
        while f"{tmp_path} is in use by process {os.getpid()} on " not in said:
            assert second.is_alive() and time.monotonic() < end
            time.sleep(0.05)
            said += capsys.readouterr().out
        for seed in {0, 1} - set(left):
            (write_run(store, spec(seed), top1(5.0), {"state": "done"}) / "model.pt").touch()
    second.join(20)
    assert engine.asked[:1] == ([("submit", "held", left)] if left else [])
    assert ("1 done, 1 to train" in capsys.readouterr().out) == bool(left)


def test_an_engine_that_is_stopped_leaves_the_store_free(store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        runner.train_missing(plan(spec(0), spec(1)), store, tmp_path, Elsewhere(stopped=True))
    assert not is_locked(tmp_path / ".lock")


@pytest.mark.parametrize(
    ("arguments", "engine"),
    [
        ([], LocalEngine()),
        (["--jobs", "3", "--processes", "2"], LocalEngine(jobs=3, processes=2)),
        (["--compile"], LocalEngine(compile_method=True)),
        (
            ["--engine", "slurm", "--jobs", "3", "--processes", "2", "--slurm", "time=5"],
            SlurmEngine({"time": 5}, parallelism=3, processes=2),
        ),
    ],
)
def test_the_options_of_the_command_are_those_of_its_engine(arguments, engine):
    assert study._engine(cli._parser().parse_args(["run-all", *arguments])) == engine


# -- progress: what a log file and a terminal get to see ---------------------------------------------------------------


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
        # 30 s for 6 of 10 epochs is 50 s per run: 20 s for this run, and two more runs
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
    progress.finish(a, "done")  # two of three runs in 20 s
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
    progress.requeue(c)  # never started
    assert progress.running == {} and progress.done == 1
    assert f"[1/3] a resnet18 cds seed 0 ({a.id}): NOT STARTED: no weights" in capsys.readouterr().out
