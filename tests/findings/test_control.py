"""CDS against a baseline that sees two views: only what the runs say, and nothing from too few of them."""

import pytest

from cds_lib.findings import comparisons, control, remarks
from cds_lib.study import settings
from cds_lib.study.store import Store
from cds_lib.study.tables import deviations
from run_folders import top1, write_run

SWITCHES = {switch.row: switch for switch in deviations.SWITCHES}


@pytest.fixture
def finish(tmp_path):
    """finish(cds, control, profile, validation, **rows): a store where these accuracies, seed 0 first, were measured on
    test images, and those of `validation` on images that the runs held back."""

    def run(cds, two_views, profile="mini", validation=None, **rows):
        store = Store(tmp_path)
        for row, values in {"cds": cds, control.SWITCH: two_views, **rows}.items():
            for seed, value in enumerate(values):
                switch = SWITCHES.get(row)
                spec = deviations.default_run(profile, switch.default if switch else row, seed)
                spec = switch.change(spec) if switch else spec
                held_back = {"val_top1_last": validation[row][seed]} if validation else {}
                write_run(store, spec, top1(value) | held_back, history="epoch,train_cross_entropy\n1,1.0\n")
        return store

    return run


@pytest.mark.parametrize(
    ("cds", "two_views", "meaning"),
    [
        ([30.0, 31.0, 32.0], [25.0, 26.0, 27.1], "CDS gains more than a second view alone."),
        ([30.0, 31.0, 32.0], [30.5, 30.6, 32.0], "not distinguishable."),
        ([25.0, 26.0, 27.1], [30.0, 31.0, 32.0], "CDS gains less than a second view alone."),
        ([30.0, 31.0], [25.0, 26.0, 27.0], "fewer than 3 seeds decide nothing."),
    ],
)
def test_the_sentence_is_what_the_interval_says(finish, cds, two_views, meaning):
    (sentence,) = control.in_short("mini", None, finish(cds, two_views))
    assert sentence.endswith(meaning) and f"(n = {len(cds)}, p = " in sentence


def test_the_gain_is_open_only_where_there_is_one_and_the_control_has_it_too(finish):
    said = "So these runs do not show that the contrastive losses cause the gain."
    level, control_ = [25.5, 26.0, 26.5], [25.0, 26.0, 27.0]
    for cds, baseline, expected in (
        (level, [20.0, 21.0, 22.0], True),
        (level, [30.0, 31.0, 32.0], False),
        ([30.0, 31.0, 32.1], [20.0, 21.0, 22.0], False),
    ):
        (sentence,) = control.in_short("mini", None, finish(cds, control_, baseline=baseline))
        assert sentence.endswith(said) == expected


def test_the_grid_has_the_difference_to_the_control_paired_by_seed(finish):
    store = finish([30.0, 31.0, 32.0], [25.0, 26.0, 27.0, 50.0], dsn=[24.0, 25.5])
    (grid,) = control.two_views("mini", None, store)
    assert grid.rows == (
        ("baseline, cross-entropy of two views (control)", "32.00 ± 12.03 (4)", "–", "–"),
        ("CDS", "31.00 ± 1.00 (3)", "+5.00 [+5.00, +5.00] (n = 3)", "–"),
        ("DSN", "24.75 ± 1.06 (2)", "−0.75 [−3.93, +2.43] (n = 2)", "–"),
    )
    assert len(grid.notes) == 1 and "Second try" not in grid.notes[0]


def test_validation_images_stand_beside_the_test_images(finish):
    seen = {"cds": [20.0, 21.0, 22.0], control.SWITCH: [25.0, 26.0, 27.0]}
    (grid,) = control.two_views("mini", None, finish([30.0, 31.0, 32.0], [25.0, 26.0, 27.0], validation=seen))
    assert grid.headings[-1] == "the same on the 2,000 validation images"
    assert grid.rows[1][2:] == ("+5.00 [+5.00, +5.00] (n = 3)", "−5.00 [−5.00, −5.00] (n = 3)")


@pytest.mark.parametrize(("profile", "again"), [("mini", True), ("paper", False)])
def test_the_form_that_was_tried_after_test_results_is_marked(finish, profile, again):
    """In the miniature alone: the full protocol planned all forms beforehand."""
    forms = {"cds_two_ce_views": [30.0], "cds_two_ce_views_weight_tenth": [31.0]}
    (grid,) = control.two_views(profile, None, finish([], [25.0], profile, **forms))
    names = [name for name, *_ in grid.rows[1:]]
    assert [name.endswith("(second try)") for name in names] == [False, again]
    assert any("no more than a hint" in note for note in grid.notes) == again


def test_nothing_is_said_without_both_or_of_smoke_numbers(finish, tmp_path):
    for profile, store in (
        ("mini", Store(tmp_path / "empty")),
        ("mini", finish([30.0], [])),
        ("smoke", finish([30.0], [20.0], "smoke")),
    ):
        assert control.two_views(profile, None, store) == [] and control.in_short(profile, None, store) == []


def test_cds_without_labels_is_set_against_the_baseline_of_as_many_steps(tmp_path):
    store = Store(tmp_path)
    base = (20.0, 21.0, 22.0)
    gains = {("cifar100", 10): (2.0, 2.1, 2.2), ("cifar100", 40): (-2.0, -2.1, -2.2), ("cifar10", 20): (-1.0, 0.0, 1.5)}
    gains["cifar10", 30] = (5.0, 5.0)  # too few
    for (dataset, percent), more in gains.items():
        for seed, gain in enumerate(more):
            for method, value in (("baseline_matched", base[seed]), ("cds_simclr", base[seed] + gain)):
                spec = settings.semi_supervised("mini", dataset, method, percent, seed)
                write_run(store, spec, top1(value))
    ahead, cifar100, cifar10 = control.as_many_steps("mini", None, store)
    cells = "cells (data set and share of labels) with 3 seeds or more"
    assert f"Of the 3 {cells} (n = 3), CDS (SimCLR loss) is above " in ahead
    assert ahead.endswith("above that control in 1, below it in 1, and not distinguishable from it in 1.")
    assert cifar100 == (
        "CIFAR-100, CDS against the baseline of as many steps: 10 % labelled +2.10 [+1.85, +2.35] (n = 3), "
        "40 % labelled −2.10 [−2.35, −1.85] (n = 3)."
    )
    assert "20 % labelled +0.17 [−2.96, +3.29] (n = 3), 30 % labelled +5.00" in cifar10
    assert remarks.collect("mini", None, store).short == [ahead]
    assert control.as_many_steps("smoke", None, store) == []


def test_where_no_cell_can_be_told_apart_it_is_said_so(tmp_path):
    store = Store(tmp_path)
    for seed, gain in enumerate((-1.0, 0.0, 1.5)):
        for dataset in ("cifar10", "cifar100"):
            for method, value in (("baseline_matched", 20.0), ("cds_simclr", 20.0 + gain)):
                write_run(store, settings.semi_supervised("mini", dataset, method, 20, seed), top1(value))
    said = control.as_many_steps("mini", None, store)[0]
    assert "In none of the 2 cells (data set and share of labels) with 3 seeds or more" in said
    assert said.endswith(" are CDS (SimCLR loss) and that control distinguishable.")
    assert control._told_apart([(comparisons.OPEN, 4)]) == (
        "In the cell (data set and share of labels) with 3 seeds or more (n = 4), CDS (SimCLR loss) and that control "
        "are not distinguishable."
    )
