"""The rematch: equal tuning effort, images that tuning never saw, and decision rules that follow the registration."""

import numpy as np
import pytest

from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.engines.split import training_split
from cds_lib.study.plan import rematch
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

LABELS = np.repeat(np.arange(100), 500)
MINI = Store(CHECKOUT / "results" / "mini")
PATTERN = np.tile([-1.0, 1.0], 6)  # mean 0, sample standard deviation sqrt(12 / 11)


def test_images_that_choose_are_the_same_in_every_run_and_no_run_trains_on_them():
    runs = [rematch.run("mini", arm, seed) for arm in rematch.ARMS for seed in (rematch.GRID_SEED, 102, 6, 29)]
    splits = [training_split(run, LABELS) for run in runs]
    assert len({val.tobytes() for _, val in splits}) == 1 and len(splits[0][1]) == 10_000
    assert all(len(train) == 5_000 and not np.intersect1d(train, val).size for train, val in splits)
    assert len({train.tobytes() for train, _ in splits}) == 4  # one per seed for all arms, so runs are paired


def test_fresh_seeds_are_those_of_no_other_table_and_of_no_trial():
    fresh = {*rematch.SEEDS, *rematch.OTHER_SEEDS, *range(6, 6 + rematch.MOST_SEEDS)}
    assert not fresh & {*range(6), rematch.GRID_SEED, *rematch.MORE_SEEDS, 100}


def test_beyond_an_edge_the_next_value_is_tried_with_all_values_of_the_other_setting(monkeypatch):
    grid = {"weight": (0.1, 0.3), "lr": (0.05, 0.1)}
    arm = rematch.Arm("", "cds", grid, beyond=(("weight", 1.0), ("lr", 0.2)))
    monkeypatch.setitem(rematch.ARMS, "control", arm)
    pairs = [(trial["weight"], trial["lr"]) for trial in rematch.trials("control")]
    assert pairs[:4] == [(0.1, 0.05), (0.1, 0.1), (0.3, 0.05), (0.3, 0.1)]
    assert pairs[4:] == [(1.0, 0.05), (1.0, 0.1), (0.1, 0.2), (0.3, 0.2), (1.0, 0.2)]


def test_finalists_are_the_best():
    assert rematch.finalists([1.0, 3.0, 2.0, 3.0]) == [1, 3, 2]


@pytest.mark.parametrize(
    ("mean", "deviation", "decided"),
    [
        (2.0, 1.0, ("adds",)),
        (-2.0, 1.0, ("harms",)),
        (0.1, 0.5, ("nothing that matters",)),
        (0.5, 0.3, ("adds", "nothing that matters")),
        (0.5, 3.0, ("undecided",)),
    ],
)
def test_the_decision_follows_the_intervals(mean, deviation, decided):
    assert rematch.decide(mean + deviation * PATTERN / PATTERN.std(ddof=1)) == decided


def test_the_decision_at_its_bounds():
    """With 12 differences and s / sqrt(12) = 1, the 95 % interval is mean ± 2.201, the 90 % interval mean ± 1.796."""
    pattern = PATTERN / PATTERN.std(ddof=1) * np.sqrt(12)
    assert rematch.decide(2.2 + pattern) == ("undecided",) and rematch.decide(2.21 + pattern) == ("adds",)
    assert rematch.decide(pattern, margin=1.79) == ("undecided",)
    assert rematch.decide(pattern, margin=1.8) == ("nothing that matters",)


def test_the_number_of_seeds_follows_from_the_deviation_alone():
    assert rematch.seeds_needed(0.4 * PATTERN) == 12 == rematch.seeds_needed(0.4 * PATTERN + 50)
    assert rematch.seeds_needed(0.8 * PATTERN) == 20  # 2.093 * 0.8356 / sqrt(20) = 0.391; 19 seeds give 0.403
    assert rematch.seeds_needed(5.0 * PATTERN) == rematch.MOST_SEEDS


def test_the_ids_of_the_trials_are_those_that_were_registered():
    page = (CHECKOUT / "docs" / "registration.md").read_text(encoding="utf-8")
    registered = page.split("## Ids of the tuning runs of 2026-11-28")[1]
    for arm in rematch.ARMS:
        runs = [rematch.run("mini", arm, rematch.GRID_SEED, **trial) for trial in rematch.trials(arm)]
        listed = [entry.split("\n\n")[0].split("\n- ")[0].split() for entry in registered.split(f"- `{arm}`:")[1:]]
        assert [run_id for ids in listed for run_id in ids] == [run.id for run in runs]


@pytest.mark.parametrize("arm", rematch.ARMS)
def test_what_was_recorded_of_the_tuning_follows_from_its_results(arm):
    """If an edge of the grid wins, the next value is tried, at most twice per side; the best three get more seeds."""
    about, trials = rematch.ARMS[arm], rematch.trials(arm)
    ids = [rematch.run("mini", arm, rematch.GRID_SEED, **trial).id for trial in trials]
    done = [MINI.is_done(run_id) for run_id in ids]
    scores = [MINI.metric(run_id, rematch.VALIDATION) for run_id in ids if MINI.is_done(run_id)]
    if about.finalists:
        assert all(done) and list(about.finalists) == rematch.finalists(scores)
    assert len(about.beyond) <= 8 and (all(done[:12]) or not about.beyond)
    if arm in rematch.CHOSEN:

        def mean(place):
            runs = [rematch.run("mini", arm, s, **trials[place]) for s in (rematch.GRID_SEED, *rematch.MORE_SEEDS)]
            return np.mean([MINI.metric(run.id, rematch.VALIDATION) for run in runs])

        assert rematch.CHOSEN[arm] == trials[max(about.finalists, key=mean)]


def test_the_arms_of_a_seed_were_trained_with_the_same_kernels():
    for seed in rematch.SEEDS:
        runs = [rematch.final("mini", arm).with_seed(seed).id for arm in rematch.CHOSEN]
        kernels = [MINI.status(run).get("instructions") for run in runs if MINI.is_done(run)]
        assert all(kernels) and len({str(one) for one in kernels}) <= 1


def test_the_table_of_the_tuning_is_the_registered_grid_and_no_table_of_the_paper():
    table = TABLES["rematch_tuning"]
    assert not table.official and table.runs("mini", (0, 1)) == table.runs("mini", None)
    ids = [run.id for run in table.runs("mini", None)]
    for arm in rematch.ARMS:
        assert {rematch.run("mini", arm, rematch.GRID_SEED, **trial).id for trial in rematch.trials(arm)} <= {*ids}
    cells = table.cells("mini", None)
    assert all((cell.metric, cell.reference) == ("val_top1_last", None) for cell in cells)
    finalists = sum(len(about.finalists) for about in rematch.ARMS.values())
    assert len({cell.key for cell in cells}) == len(cells) == len({*ids}) - finalists * len(rematch.MORE_SEEDS)
    assert sorted({len(cell.specs) for cell in cells}) == [1, 1 + len(rematch.MORE_SEEDS)]
    assert {cell.setting for cell in table.cells("smoke", None)} == {cell.setting for cell in cells}
    assert len(table.runs("smoke", None)) == len({cell.setting for cell in cells})


def test_what_tuning_chose_is_what_the_final_runs_and_rungs_have(monkeypatch):
    monkeypatch.setattr(rematch, "CHOSEN", {})
    assert rematch.final("mini", "control") is None and rematch.final("paper", "control") is None
    monkeypatch.setitem(rematch.CHOSEN, "control", {"lr": 0.1, "weight_decay": 2e-3})
    monkeypatch.setitem(rematch.CHOSEN, "cds_both", {"weight": 0.3, "lr": 0.05, "weight_decay": 2e-3})
    assert {trial["weight_decay"] for trial in rematch.trials("dsn_two_views")} == {2e-3}
    runs = {(cell.method, cell.setting): cell.run for cell in TABLES["rematch"].cells("mini", None)}
    assert runs["control", "rematch"].budget.lr == runs["cds_both_weight_3", "rematch_dose"].budget.lr == 0.1
    assert runs["cds_both", "rematch"].options["weight"] == 0.3 and runs["cds_both", "rematch"].budget.lr == 0.05
    assert runs["baseline", "rematch"] is None and runs["cds_released_weight_0", "rematch_exploratory"] is None
    rungs = {(cell.method, cell.setting): cell.run for cell in TABLES["ladder"].cells("mini", None)}
    assert rungs["control", "epochs_60"] == rungs["control", "resolution_16"] == runs["control", "rematch"]
    assert rungs["cds_both_third", "images_20000"].options["weight"] == 0.1
    corner = rungs["cds_both", "corner_20000"].budget
    assert (corner.train_size, corner.image_size, corner.epochs, corner.width) == (20_000, 32, 60, 0.25)


def test_the_cell_as_released_has_the_released_schedule_at_the_size_of_the_miniature():
    found = rematch.as_released("mini", "cds_released")
    assert (found.budget.epochs, found.budget.lr, found.budget.milestones) == (300, 0.1, (90, 180, 280))
    assert found.budget.cutout and found.budget.image_size == 16 and found.budget.train_size == 5_000
    assert found.options["weight"] == 0.1 and found.budget.val_seed == rematch.VAL_SEED
    assert "weight" not in rematch.as_released("mini", "control").options
