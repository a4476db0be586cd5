"""The table of deviations: which runs it shares, what each switch switches, what its notebook shows."""

import inspect
from dataclasses import asdict, replace

import pytest

from cds_lib.methods import DistilledCDS
from cds_lib.models import create_backbone, stage_taps
from cds_lib.study.tables import TABLES, deviations

TABLE = TABLES["deviations"]


def cells(profile, seeds=(0,)):
    return {cell.key[2:]: cell for cell in TABLE.cells(profile, seeds) if cell.dataset == "cifar100"}


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_default_runs_are_those_of_other_tables_and_only_switched_ones_are_new(profile):
    others = {run.id for name, table in TABLES.items() if name != "deviations" for run in table.runs(profile, (0, 1))}
    for cell in TABLE.cells(profile, (0, 1)):
        ids = {spec.id for spec in cell.specs}
        assert len(ids) == 2
        shared = cell.reference is None or cell.dataset == "imagenet"
        assert ids <= others if shared else not ids & others, cell.key
    new = {run.id for run in TABLE.runs(profile, (0,))} - others
    assert len(new) == 15


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_every_switch_changes_what_it_says(profile):
    found, changed = cells(profile), {}
    for (row, _), cell in found.items():
        if cell.reference is None:
            continue
        ours, default = (asdict(c.specs[0]) for c in (cell, found[cell.reference[2:]]))
        for part in ("options", "budget"):
            mine, usual = ours.pop(part), default.pop(part)
            different = {name: mine.get(name) for name in usual | mine if mine.get(name) != usual.get(name)}
            changed.setdefault(row, {}).update(different)
        assert ours == default
    weight = {"paper": 0.1, "smoke": 0.1, "mini": 3.0}[profile]
    cutout, how = (False, "without") if profile == "paper" else (True, "with")
    matched = changed.pop("cds_kd_mse_matched")
    assert matched.keys() == {"feature_loss", "feature_weight"}
    assert changed == {
        "baseline_two_views": {"views": 2},
        f"baseline_{how}_cutout": {"cutout": cutout},
        f"cds_{how}_cutout": {"cutout": cutout},
        "cds_two_ce_views": {"cross_entropy_views": 2},
        "cds_two_ce_views_weight_tenth": {"cross_entropy_views": 2, "weight": pytest.approx(weight / 10)},
        "cds_three_taps": {"taps": [1, 2, 3]},
        "cds_weight_tenth": {"weight": pytest.approx(weight / 10)},
        "cds_weight_third": {"weight": pytest.approx(weight / 3, rel=1e-5)},
        "cds_weight_triple": {"weight": pytest.approx(weight * 3)},
        **{f"cds_temperature_{t}": {"temperature": t} for t in (0.1, 0.2, 0.5)},
        "cds_kd_teacher_train": {"teacher_mode": "train"},
        "cds_kd_mse": {"feature_loss": "mse"},
    }


@pytest.mark.parametrize("profile", ["smoke", "mini"])
def test_the_matched_mean_square_equals_the_frobenius_norm_at_distance_1(profile):
    spec = cells(profile)["cds_kd_mse_matched", "distill"].specs[0]
    teacher = create_backbone(spec.parent.model, 2, width=spec.parent.budget.width)
    rows, dimensions = 2 * spec.budget.batch_size, stage_taps(teacher).pooled
    default = inspect.signature(DistilledCDS).parameters["feature_weight"].default
    squares = rows * 1.0  # each row at distance 1
    assert spec.options["feature_weight"] * squares / (rows * dimensions) == pytest.approx(default * squares**0.5)


def test_stems_are_compared_method_by_method():
    rows = {cell.key[2:]: cell for cell in TABLE.cells("mini", (0,)) if cell.dataset == "imagenet"}
    assert list(rows) == [(m, s) for s in ("supervised", "supervised_no_max_pool") for m in ("baseline", "cds")]
    for (method, setting), cell in rows.items():
        default = rows[method, "supervised"]
        assert cell.reference == (default.key if setting != "supervised" else None)
        budget = replace(cell.run.budget, stem=default.run.budget.stem)
        assert replace(cell.run, budget=budget) == default.run


def test_rows_have_names_of_their_own_and_no_claims():
    assert all(cell.paper is None for profile in ("mini", "paper") for cell in TABLE.cells(profile, (0,)))
    assert len({switch.title for switch in deviations.SWITCHES}) == len(deviations.SWITCHES) == len(TABLE.names)
