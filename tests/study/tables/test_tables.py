"""Pinned run ids of every table (a changed id would orphan every user's finished runs); seeds; the search."""

import hashlib
import inspect
from dataclasses import asdict, replace

import numpy as np
import pytest

from cds_lib.methods import DistilledCDS
from cds_lib.models import create_backbone, stage_taps
from cds_lib.study import statistics
from cds_lib.study.engines.split import training_split
from cds_lib.study.plan import claims, protocols
from cds_lib.study.plan.protocols import PROFILES
from cds_lib.study.report import naming
from cds_lib.study.report.table_files import read_table
from cds_lib.study.tables import SUMMARY, TABLES, deviations, official, tuning
from run_folders import MINI


def counts(name, profile, seeds):
    return {cell.key: len(cell.specs) for cell in TABLES[name].cells(profile, seeds)}


@pytest.mark.parametrize(("profile", "breadth"), [("mini", 1), ("paper", statistics.MIN_SEEDS)])
def test_headline_cells_have_the_seeds_that_a_sign_flip_test_needs(profile, breadth):
    """Other cells have one seed in the miniature, to show that they train, and enough for a verdict in `paper`."""
    for key, number in counts("table1_cifar100", profile, None).items():
        assert number == (statistics.SIGN_FLIP_SEEDS if key[1] == "resnet18" else breadth), key
    for name in ("semi_supervised", "calibration", "training_loss", "linear_probe", "layerwise_accuracy", "tsne"):
        assert set(counts(name, profile, None).values()) == {statistics.SIGN_FLIP_SEEDS}, name
    assert set(counts("distillation_cifar100", profile, None).values()) == {statistics.MIN_SEEDS}
    headline = {"baseline", "cds", *(switch.row for switch in deviations.SWITCHES if switch.deviation == "D10")}
    for key, number in counts("deviations", profile, None).items():
        seeds = statistics.SIGN_FLIP_SEEDS if key[2] in headline else statistics.MIN_SEEDS
        assert number == (breadth if key[0] == "imagenet" else seeds), key
    for name in ("table2_cifar10", "table3_imagenet", "table4_coco", "table6_finegrained", "contrastive_methods"):
        assert set(counts(name, profile, None).values()) == {breadth}, name


def test_every_claim_is_planned_with_the_seeds_it_wants_or_is_of_the_breadth_of_the_miniature():
    tables = [t for t in official() if t.name != SUMMARY]
    for profile, least in (("mini", 1), ("paper", None)):
        for claim in claims.collect(tables, profile, None):
            planned = min(len(cell.specs) for cell in (*claim.cells, *claim.references))
            assert planned >= claim.n_wanted or planned == least, claim


def test_seeds_that_are_asked_for_are_those_of_every_cell_but_of_a_table_with_its_own():
    seeds = {name: {cell.seeds for cell in TABLES[name].cells("mini", (7, 3))} for name in ("table4_coco", "tuning")}
    assert seeds == {"table4_coco": {(7, 3)}, "tuning": {(100,)}}


# Hashes of the ordered ids of all runs for smoke, mini, paper.
HASHES = {
    "00_start_here": "c7ae548b c7ae548b c7ae548b",
    "tuning": "db010ae8 8fcc8cd5 93a88ef5",
    "table1_cifar100": "5d7eaf9e f838ff2e 82ea081e",
    "table2_cifar10": "ad135dc6 4b4b6dfa 517901d7",
    "table3_imagenet": "645addd2 c218306f b11c38e7",
    "table4_coco": "39466311 58d86380 4e7e80b9",
    "table6_finegrained": "868ebb03 98085f37 b3d8cd79",
    "table7_imagenet_distillation": "1ff04a98 17a4e344 eaa65c64",
    "contrastive_methods": "9d0a3d74 d4121810 4cd2498c",
    "distillation_cifar100": "95130149 2fa0d6a4 b930147d",
    "semi_supervised": "b5b31c8c 5277f469 5e78bc30",
    "linear_probe": "c84a3b3e bd87d161 e6dfd88a",
    "layerwise_accuracy": "c84a3b3e bd87d161 e6dfd88a",
    "calibration": "c84a3b3e bd87d161 e6dfd88a",
    "training_loss": "c84a3b3e bd87d161 e6dfd88a",
    "tsne": "c84a3b3e bd87d161 e6dfd88a",
    "deviations": "72808fd1 ea55d3b4 95f5e44d",
    "summary": "40a6e984 7be6aea3 37123612",
}


@pytest.mark.parametrize("table", official(), ids=lambda table: table.name)
def test_ids_and_their_order_never_change(table):
    ids = (" ".join(run.id for run in table.runs(profile, None)) for profile in PROFILES)
    assert " ".join(hashlib.sha256(text.encode()).hexdigest()[:8] for text in ids) == HASHES[table.name]


# -- the search --------------------------------------------------------------------------------------------------------


TABLE = TABLES["tuning"]


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
    names = [naming.name_of("cds_weight_0.3"), naming.name_of("baseline_lr_0.1"), naming.group_title(["tuning_dsn"])]
    assert names == ["CDS, weight 0.3", "baseline, learning rate 0.1", "DSN"]


def test_the_miniature_trains_with_what_its_search_chose():
    accuracy = read_table("tuning", MINI).set_index("method")["mean"]
    for method, (option, values) in tuning.SEARCHED.items():
        best = max(values, key=lambda value, m=method: accuracy[f"{m}_{tuning.SEARCHED[m][0]}_{value:g}"])
        run = tuning.default_run("mini", method, 0)
        assert best == (run.budget.lr if option == "lr" else run.options[option]), method


# -- the deviations: which runs they share, what each switch switches --------------------------------------------------


DEVIATIONS = TABLES["deviations"]


def switched(profile, seeds=(0,)):
    return {cell.key[2:]: cell for cell in DEVIATIONS.cells(profile, seeds) if cell.dataset == "cifar100"}


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_default_runs_are_those_of_other_tables_and_only_switched_ones_are_new(profile):
    others = {run.id for name, table in TABLES.items() if name != "deviations" for run in table.runs(profile, (0, 1))}
    for cell in DEVIATIONS.cells(profile, (0, 1)):
        ids = {spec.id for spec in cell.specs}
        assert len(ids) == 2
        shared = cell.reference is None or cell.dataset == "imagenet"
        assert ids <= others if shared else not ids & others, cell.key
    new = {run.id for run in DEVIATIONS.runs(profile, (0,))} - others
    assert len(new) == 15


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_every_switch_changes_what_it_says(profile):
    found, changed = switched(profile), {}
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
    spec = switched(profile)["cds_kd_mse_matched", "distill"].specs[0]
    teacher = create_backbone(spec.parent.model, 2, width=spec.parent.budget.width)
    rows, dimensions = 2 * spec.budget.batch_size, stage_taps(teacher).pooled
    default = inspect.signature(DistilledCDS).parameters["feature_weight"].default
    squares = rows * 1.0  # neighbouring rows are at distance 1
    assert spec.options["feature_weight"] * squares / (rows * dimensions) == pytest.approx(default * squares**0.5)


def test_stems_are_compared_method_by_method():
    rows = {cell.key[2:]: cell for cell in DEVIATIONS.cells("mini", (0,)) if cell.dataset == "imagenet"}
    assert list(rows) == [(m, s) for s in ("supervised", "supervised_no_max_pool") for m in ("baseline", "cds")]
    for (method, setting), cell in rows.items():
        default = rows[method, "supervised"]
        assert cell.reference == (default.key if setting != "supervised" else None)
        budget = replace(cell.run.budget, stem=default.run.budget.stem)
        assert replace(cell.run, budget=budget) == default.run


def test_rows_have_names_of_their_own_and_no_claims():
    assert all(cell.paper is None for profile in ("mini", "paper") for cell in DEVIATIONS.cells(profile, (0,)))
    assert len({switch.title for switch in deviations.SWITCHES}) == len(deviations.SWITCHES) == len(DEVIATIONS.names)
