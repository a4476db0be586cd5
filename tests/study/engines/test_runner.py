"""What is to be trained, and what an engine, whichever it is, is asked for it."""

import os
import threading
import time
from dataclasses import replace

import pytest

from cds_lib.study import cli
from cds_lib.study.commands import study
from cds_lib.study.engines import runner
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.files import is_locked
from cds_lib.study.plan import settings
from cds_lib.study.plan.table import Table, cell
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.table6_finegrained import finetuned
from run_folders import top1, write_run


def spec(seed, **changes):
    return replace(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), **changes)


def plan(*missing):
    return runner.Plan((), missing, ())


class Elsewhere:
    """A third engine. It trains nothing and notes what it is asked, and whether the store is held meanwhile."""

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
    """As in a clone of committed results, which have none."""
    store, child = Store(tmp_path), finetuned("smoke", "cub200", "resnet50", "cds", "finetune", 0)
    write_run(store, child.parent, top1(5.0), {"state": "done"})
    table = Table("One", "?", lambda profile: [cell(child, (0,))])
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 0 done, 2 to train (1 of them again, for weights that others start from)"
    store.model(child.parent.id).touch()  # another command has trained it
    runner.train_missing(plan, store, tmp_path, Elsewhere())
    assert capsys.readouterr().out.startswith("2 runs: 1 done, 1 to train.\n")
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 1 done, 1 to train"


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
