"""The search: the same effort for every method, on validation images; the miniature has what it chose."""

from pathlib import Path

import numpy as np
import pytest

from cds_lib.engines.split import training_split
from cds_lib.findings import comparisons
from cds_lib.findings import tuning as shown
from cds_lib.reporting import naming, report
from cds_lib.session import open_study
from cds_lib.study import protocols
from cds_lib.study.tables import TABLES, tuning
from run_folders import top1, write_run

TABLE = TABLES["tuning"]
MINI = Path(__file__).parents[3] / "results" / "mini"


def test_every_method_has_as_many_candidates_of_one_run_each():
    cells = TABLE.cells("mini", (0, 1, 2))
    efforts = {cell.setting: sum(c.setting == cell.setting for c in cells) for cell in cells}
    assert efforts.keys() == {f"tuning_{method}" for method in ("baseline", "dsn", "dks", "dhm", "cds", "cds_simclr")}
    assert set(efforts.values()) == {3}
    assert all(len(cell.specs) == 1 for cell in cells)
    assert len({cell.specs[0].id for cell in cells}) == len(cells)


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_candidates_differ_in_what_is_searched_alone_and_share_no_run_with_a_table(profile):
    for method, (option, values) in tuning.SEARCHED.items():
        specs = [tuning.candidate(profile, method, value) for value in values]
        searched = [spec.budget.lr if option == "lr" else spec.options[option] for spec in specs]
        assert searched == list(values)
        default = tuning.default_run(profile, method, 0)
        for spec in specs:
            assert spec.budget.val_size > 0 and spec.seed not in protocols.HEADLINE_SEEDS[profile]
            assert spec.budget.epochs == default.budget.epochs and spec.budget.batch_size == default.budget.batch_size
            assert option == "lr" or spec.budget.lr == default.budget.lr
            assert spec.labelled == default.labelled
    others = {run.id for name, table in TABLES.items() if name != "tuning" for run in table.runs(profile, None)}
    assert not others & {run.id for run in TABLE.runs(profile, None)}


def test_what_chooses_is_not_trained_on_and_not_tested_on():
    labels = np.repeat(np.arange(100), 500)
    train, val = training_split(tuning.candidate("mini", "cds", 1.0), labels)
    assert len(val) == 10_000 and not set(train) & set(val)
    assert all(cell.metric == "val_top1_last" for cell in TABLE.cells("mini", None))


@pytest.fixture
def study(tmp_path):
    """All candidates of CDS have run, one of DSN; the best of CDS is 3.0."""
    study = open_study("tuning", profile="mini", results=str(tmp_path))
    found = {"cds_weight_0.3": 31.0, "cds_weight_1": 29.0, "cds_weight_3": 32.5, "dsn_weight_1": 28.0}
    for cell in study.table.cells("mini", None):
        if cell.method in found:
            metrics = {"val_top1_last": found[cell.method], "test_top1_last": 99.0, "seconds": 60.0}
            write_run(study.store, cell.specs[0], metrics)
    return study


def test_the_best_is_named_once_all_candidates_have_run(study):
    assert shown.best(study.frame()) == {"cds": 3.0}
    text = shown.conclusion(study).data
    assert "<li>4 of the 18 runs that fill a cell are finished.</li>" in text
    assert "<li>CDS: best at weight 3, at the edge of what was tried, as the profile has it.</li>" in text
    assert "The search took 4 min 00 s of training" in text
    frame = study.frame().set_index("method")
    assert frame.loc["cds_weight_3", "mean"] == 32.5 and frame["verdict"].isin(["", "not run"]).all()
    picture = shown.search(study).data
    assert "learning rate" in picture and (study.store.root / "figures" / "tuning.svg").exists()


def test_what_lies_beyond_the_edge_is_read_from_the_switches(study):
    assert "CDS beyond that edge, at weight 9, is a switch of deviations, which was not run." in (
        shown.conclusion(study).data
    )
    for row, accuracy in (("cds", 26.0), ("cds_weight_triple", 24.0)):
        cell = comparisons.headline_cells("mini", None)[row]
        write_run(study.store, cell.specs[0], top1(accuracy))
    assert "deviations: test accuracy minus that of weight 3: −2.00 (n = 1; tried after the choice)." in (
        shown.conclusion(study).data
    )


def test_candidates_are_called_by_their_method_and_value():
    assert naming.method_name("cds_weight_0.3") == "CDS, weight 0.3"
    assert naming.method_name("baseline_lr_0.1") == "baseline, learning rate 0.1"
    assert naming.group_title(["tuning_dsn"]) == "DSN"


def test_the_miniature_trains_with_what_its_search_chose():
    frame = report.read_table("tuning", MINI)
    chosen, frozen = shown.best(frame), shown.frozen("mini")
    assert chosen.keys() >= {"baseline", "dsn", "cds"}
    assert chosen == {method: frozen[method] for method in chosen}
