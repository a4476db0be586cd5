"""What is to be trained, and what an engine, whichever it is, is asked for it."""

import os
import threading
import time
from dataclasses import replace

import pytest

from cds_lib.study import cli, settings
from cds_lib.study.commands import study
from cds_lib.study.engines import runner
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.slurm_engine import SlurmEngine
from cds_lib.study.files import is_locked
from cds_lib.study.store import Store
from cds_lib.study.table import Table, cell
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.table6_finegrained import finetuned
from run_folders import top1, write_run


def spec(seed, **changes):
    return replace(settings.supervised("smoke", "cifar10", "resnet18", "cds", seed), **changes)


def plan(*missing):
    return runner.Plan((), missing, ())


class Elsewhere:
    """A third engine. It trains nothing and notes what it is asked, and whether the store is held meanwhile."""

    jobs_here = 1

    def __init__(self, stopped_in=""):
        self.stopped_in, self.asked = stopped_in, []

    def _note(self, what, store, specs, outcome=None):
        held = "held" if is_locked(store.root / ".lock") else "free"
        self.asked.append((what, held, [spec.seed for spec in specs]))
        if what == self.stopped_in:
            raise KeyboardInterrupt
        return outcome

    def at_a_time(self, specs, store):
        self._note("at_a_time", store, specs)
        return 0

    def run(self, specs, store, data_root, progress):
        return self._note("run", store, specs, {specs[0].id: "It has no parent."})

    def wait(self, specs, store, progress):
        return self._note("wait", store, specs, {spec.id: "The loss became nan." for spec in specs[:1]})

    def how_to_go_on(self, store):
        return "No longer waiting."


# -- plans -------------------------------------------------------------------------------------------------------------


def test_plans_sort_runs_by_state(tmp_path):
    table = TABLES["00_start_here"]
    store = Store(tmp_path)
    first, second = table.runs("smoke", (0,))
    (store.run_dir(first.id)).mkdir(parents=True)
    (store.run_dir(first.id) / "metrics.json").write_text("{}")
    store.write_status(second.id, state="failed", error="no")
    plan = runner.make_plan([table, table], "smoke", (0,), store, retry_failed=False)
    assert (plan.done, plan.missing, plan.failed) == ((first,), (), (second,))
    assert plan.describe() == "2 runs: 1 done, 0 to train, 1 failed before (--retry-failed tries them again)"
    assert runner.make_plan([table], "smoke", (0,), store, retry_failed=True).missing == (second,)
    assert runner.train_missing(plan, store, tmp_path, Elsewhere()) == {}


def test_a_plan_counts_what_is_trained_again_for_its_weights(tmp_path):
    """As in a clone of committed results, which have none."""
    store, child = Store(tmp_path), finetuned("smoke", "cub200", "resnet50", "cds", "finetune", 0)
    write_run(store, child.parent, top1(5.0), {"state": "done"})
    table = Table("One", "?", lambda profile: [cell(child, (0,))])
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 0 done, 2 to train (1 of them again, for weights that others start from)"
    store.model(child.parent.id).touch()
    plan = runner.make_plan([table], "smoke", (0,), store, retry_failed=False)
    assert plan.describe() == "2 runs: 1 done, 1 to train"


# -- engines -----------------------------------------------------------------------------------------------------------


def test_the_store_is_held_until_all_runs_are_in_the_engines_hands(tmp_path, capsys):
    engine, store = Elsewhere(), Store(tmp_path)
    runs = [spec(0), spec(1), spec(2)]
    failed = runner.train_missing(plan(*runs), store, tmp_path, engine)
    assert failed == {runs[0].id: "It has no parent.", runs[1].id: "The loss became nan."}
    assert engine.asked == [("at_a_time", "held", [0, 1, 2]), ("run", "held", [0, 1, 2]), ("wait", "free", [1, 2])]
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("3 runs: 0 done, 3 to train; each run's own log is in ")
    assert last.startswith("Trained 1 run, 2 failed; ")


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
    assert engine.asked[:2] == [(phase, "held", left) for phase in ("at_a_time", "run") if left]
    assert ("1 done, 1 to train" in capsys.readouterr().out) == bool(left)


@pytest.mark.parametrize("phase", ["run", "wait"])
def test_an_engine_that_is_stopped_says_how_to_go_on_and_leaves_the_store_free(phase, tmp_path, capsys):
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runner.train_missing(plan(spec(0), spec(1)), store, tmp_path, Elsewhere(phase))
    assert capsys.readouterr().out.splitlines()[1:] == ["No longer waiting."]
    with store.lock():
        pass  # nobody holds it


@pytest.mark.parametrize(
    ("arguments", "engine", "jobs_here"),
    [
        ([], LocalEngine(), 0),
        (["--jobs", "3", "--processes", "2"], LocalEngine(jobs=3, processes=2), 3),
        (["--compile"], LocalEngine(compile_method=True), 0),
        (
            ["--engine", "slurm", "--jobs", "3", "--processes", "2", "--slurm", "time=5"],
            SlurmEngine({"time": 5}, parallelism=3, processes=2),
            1,
        ),
    ],
)
def test_the_options_of_the_command_are_those_of_its_engine(arguments, engine, jobs_here):
    made = study._engine(cli._parser().parse_args(["run-all", *arguments]))
    assert made == engine and made.jobs_here == jobs_here
