"""The search: the same effort for every method, on validation images; the miniature has what it chose."""

from pathlib import Path

import numpy as np
import pytest

from cds_lib.study.engines.split import training_split
from cds_lib.study.plan import protocols
from cds_lib.study.report import naming
from cds_lib.study.report.table_files import read_table
from cds_lib.study.tables import TABLES, official, tuning

TABLE = TABLES["tuning"]
MINI = Path(__file__).parents[3] / "results" / "mini"


def test_every_method_has_as_many_candidates_of_one_run_each():
    cells = TABLE.cells("mini", (0, 1, 2))
    efforts = {cell.setting: sum(c.setting == cell.setting for c in cells) for cell in cells}
    assert efforts.keys() == {f"tuning_{method}" for method in ("baseline", "dsn", "dks", "dhm", "cds", "cds_simclr")}
    assert set(efforts.values()) == {3} and all(len(cell.specs) == 1 for cell in cells)
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
    others = {run.id for table in official() if table.name != "tuning" for run in table.runs(profile, None)}
    assert not others & {run.id for run in TABLE.runs(profile, None)}


def test_what_chooses_is_not_trained_on_and_not_tested_on():
    labels = np.repeat(np.arange(100), 500)
    train, val = training_split(tuning.candidate("mini", "cds", 1.0), labels)
    assert len(val) == 10_000 and not set(train) & set(val)
    assert all(cell.metric == "val_top1_last" for cell in TABLE.cells("mini", None))


def test_candidates_are_called_by_their_method_and_value():
    assert naming.name_of("cds_weight_0.3") == "CDS, weight 0.3"
    assert naming.name_of("baseline_lr_0.1") == "baseline, learning rate 0.1"
    assert naming.group_title(["tuning_dsn"]) == "DSN"


def test_the_miniature_trains_with_what_its_search_chose():
    accuracy = read_table("tuning", MINI).set_index("method")["mean"]
    for method, (option, values) in tuning.SEARCHED.items():
        best = max(values, key=lambda value, m=method: accuracy[f"{m}_{tuning.SEARCHED[m][0]}_{value:g}"])
        run = tuning.default_run("mini", method, 0)
        assert best == (run.budget.lr if option == "lr" else run.options[option]), method
