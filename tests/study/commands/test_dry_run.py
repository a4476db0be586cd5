"""The estimate of `--dry-run`: measured seconds of the likest runs that have finished."""

from dataclasses import replace

import pytest

from cds_lib.study.commands import dry_run
from cds_lib.study.engines.runner import Plan
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from run_folders import write_run


def said(store, done, missing):
    plan = Plan(done=tuple(done), missing=tuple(missing), failed=())
    return "\n".join(dry_run.lines(plan, [], "smoke", None, store, store.root))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The results of the checkout."""
    monkeypatch.setattr(dry_run, "results_dir", lambda profile: tmp_path / "elsewhere")
    return Store(tmp_path / "elsewhere")


def test_the_likest_finished_runs_decide(tmp_path, elsewhere):
    store, cds = Store(tmp_path / "own"), settings.supervised("smoke", "cifar100", "resnet18", "cds")
    other = replace(cds, options={**cds.options, "weight": 9.0})
    assert "Very roughly" not in said(store, [], [cds])
    write_run(elsewhere, cds, {"seconds": 40.0})  # in the results of the checkout: counts as well
    assert "Very roughly 40 s of training for 1 run of 1," in said(store, [], [cds])
    write_run(store, cds.with_seed(1), {"seconds": 60.0})
    write_run(store, other, {"seconds": 1000.0})
    seeds = [cds.with_seed(2), replace(cds, model="resnet50"), replace(cds, dataset="cub200", setting="finetune")]
    text = said(store, [cds.with_seed(1), other], seeds)
    # Of the same run but for the seed 50 s (40 and 60), of the same data set 366.7 s (with 1000).
    assert "Very roughly 6 min 57 s of training for 2 runs of 3," in text
