"""The decisions of the rematch and the slopes of the ladder, of differences that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cds_lib.study.ladder import RUNGS
from cds_lib.study.rematch import CDS_BOTH, CONTROL, LOSS, OUTCOME, PRIMARY, SECONDARY
from cds_lib.study.report.frame import results, tidy
from cds_lib.study.report.registered import decisions, slopes
from cds_lib.study.store import Store
from cds_lib.study.table import TOP1
from cds_lib.study.tables import TABLES


def rows(method, setting, metric, values):
    return [
        {"method": method, "setting": setting, "metric": metric, "seed": seed, "value": value}
        for seed, value in values.items()
    ]


def test_every_registered_comparison_is_decided_from_pairs_of_seeds():
    drawn = np.random.default_rng(0)
    arms = {*PRIMARY, *(arm for pair in SECONDARY for arm in pair)}
    points = {arm: dict(enumerate(drawn.normal(30 + (arm == CDS_BOTH), 0.2, 8), 6)) for arm in sorted(arms)}
    del points["baseline"][6]
    frame = [row for arm in arms for row in rows(arm, "rematch", OUTCOME, points[arm])]
    frame += [
        row for arm in arms for row in rows(arm, "rematch", LOSS, {s: 3 - v / 100 for s, v in points[arm].items()})
    ]
    frame += rows(CONTROL, "rematch_dose", OUTCOME, dict.fromkeys(range(6, 14), 99.0))  # another part of the table
    found = decisions(pd.DataFrame(frame)).set_index(["ours", "reference"])
    assert list(found.index) == [PRIMARY, *SECONDARY]
    for ours, reference in found.index:
        both = sorted(points[ours].keys() & points[reference].keys())
        test = stats.ttest_rel(*([points[arm][seed] for seed in both] for arm in (ours, reference)))
        row = found.loc[(ours, reference)]
        assert row["n"] == len(both) == (7 if "baseline" in (ours, reference) else 8)
        assert row["p"] == pytest.approx(test.pvalue)
        interval = test.confidence_interval(0.9)
        assert (row["low_90"], row["high_90"]) == pytest.approx((interval.low, interval.high))
    assert found.loc[PRIMARY, "accuracy"] == found.loc[PRIMARY, "loss"] == "adds"  # a smaller loss is better
    assert np.isnan(found.loc[PRIMARY, "p_holm"])
    secondary = found.loc[list(SECONDARY)]
    assert secondary["p_holm"].min() == pytest.approx(4 * secondary["p"].min())


def test_a_slope_is_that_of_the_gain_by_doubling():
    frame = []
    for rung in (rung for rung in RUNGS if rung.factor == "epochs"):
        doublings = np.log2(rung.value / 30)
        control = {seed: 20 + seed for seed in rung.seeds}
        gain = {seed: (0.4 + 0.01 * seed) * doublings - 1 for seed in rung.seeds}
        frame += rows(CONTROL, rung.setting, TOP1, control)
        frame += rows(CDS_BOTH, rung.setting, TOP1, {seed: control[seed] + gain[seed] for seed in control})
    found = slopes(pd.DataFrame(frame)).set_index("factor")
    assert found.loc["epochs", "difference"] == pytest.approx(0.47) and found.loc["epochs", "n"] == 3
    assert found.loc["epochs", "decision"] == "grows" and found.loc["images", "decision"] == "not run"


@pytest.mark.parametrize("name", ["rematch", "ladder", "heads"])
def test_what_is_planned_and_not_run_is_a_row(name, tmp_path):
    table = TABLES[name]
    frame = tidy(results(table, "mini", None, Store(tmp_path)))
    cells = table.cells("mini", None)
    assert len(frame) == len(cells) and (frame["n"] == 0).all() and (frame["verdict"] == "not run").all()
    assert list(frame["n_planned"]) == [len(cell.seeds) for cell in cells]
    assert not table.official and len({(cell.key, cell.metric) for cell in cells}) == len(cells)
    keys = {cell.key for cell in cells}
    assert all(cell.reference in keys for cell in cells if cell.reference)


def test_exploratory_rows_are_compared_with_runs_that_are_there():
    """Nine networks and six seeds of DSN are those of Table 1; what is new is a run each."""
    committed = {run.id for run in TABLES["table1_cifar100"].runs("mini", None)}
    new = [run for run in TABLES["controls"].runs("mini", None) if run.id not in committed]
    assert [run.options for run in new if run.method == "baseline"] == [{"views": 2}] * 9
    assert {run.seed for run in new if run.options.get("kl_weight") == run.options.get("weight")} == {*range(6)}
    page = (Path(__file__).parents[3] / "docs" / "registration.md").read_text(encoding="utf-8")
    assert page.split("## 2026-11-29: controls")[1].split("`controls`:")[1].split()[:15] == [run.id for run in new]
