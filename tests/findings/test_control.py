"""CDS against a baseline that sees two views: only what the runs say, and nothing from too few of them."""

import pytest

from cds_lib.findings import comparisons, control, remarks
from cds_lib.pages import render
from cds_lib.reporting import summary, verdicts
from cds_lib.study import ablations, settings
from cds_lib.study.store import Store
from run_folders import top1, write_run

SWITCHES = {switch.row: switch for switch in ablations.SWITCHES}


@pytest.fixture
def finish(tmp_path):
    """finish(cds, control, profile, validation, **rows): the sentences when these accuracies, seed 0 first, were
    measured on test images, and those of `validation` on images that the runs held back."""

    def run(cds, two_views, profile="mini", validation=None, **rows):
        store = Store(tmp_path)
        for row, values in {"cds": cds, control.SWITCH: two_views, **rows}.items():
            for seed, value in enumerate(values):
                switch = SWITCHES.get(row)
                spec = ablations.default_run(profile, switch.default if switch else row, seed)
                spec = switch.change(spec) if switch else spec
                held_back = {"val_top1_last": validation[row][seed]} if validation else {}
                write_run(store, spec, top1(value) | held_back, history="epoch,train_cross_entropy\n1,1.0\n")
        return control.sentences(profile, None, store)

    return run


@pytest.mark.parametrize(
    ("cds", "two_views", "meaning"),
    [
        ([30.0, 31.0, 32.0], [25.0, 26.0, 27.1], "CDS is above what the second view alone gives."),
        ([30.0, 31.0, 32.0], [30.5, 30.6, 32.0], "the two are not told apart."),
        ([25.0, 26.0, 27.1], [30.0, 31.0, 32.0], "the second view alone gives more."),
        ([30.0, 31.0], [25.0, 26.0, 27.0], "fewer than 3 seeds decide nothing."),
    ],
)
def test_the_sentence_is_what_the_interval_says(finish, cds, two_views, meaning):
    (sentence,) = finish(cds, two_views)
    assert sentence.endswith(meaning) and f"(n = {len(cds)}, p = " in sentence


def test_the_difference_is_cds_minus_the_control_paired_by_seed(finish):
    (sentence,) = finish([30.0, 31.0, 32.0], [25.0, 26.0, 27.0])
    assert "has a test accuracy of 26.00 ± 1.00 (3). CDS minus the control: +5.00 [+5.00, +5.00] (n = 3, p" in sentence
    assert "validation" not in sentence  # these runs held nothing back


@pytest.mark.parametrize(
    ("values", "meaning"),
    [
        (
            [30.0, 31.0, 32.1],
            "+5.03 [+4.89, +5.18] (n = 3, p = 0.250): the contrastive losses add to what two views give.",
        ),
        (
            [25.5, 26.0, 26.5],
            "0.00 [−1.24, +1.24] (n = 3, p = 1.000): whether the contrastive losses add to what two views give",
        ),
        (
            [20.0, 21.0, 22.1],
            "−4.97 [−5.11, −4.82] (n = 3, p = 0.250): the contrastive losses take away from what two views give.",
        ),
    ],
)
def test_cds_with_both_cross_entropies_is_set_against_the_same_control(finish, values, meaning):
    _, both = finish([30.0], [25.0, 26.0, 27.0], cds_two_ce_views=values)
    assert both.startswith("CDS with the cross-entropy of both views, as the control has it, has ") and meaning in both
    *_, lighter = finish([], [], cds_two_ce_views_weight_tenth=values)
    assert "a second try made after the first test results were known" in lighter
    assert ("a hint" in lighter) == (min(values) > 26.0)  # the second of two tries confirms nothing


@pytest.mark.parametrize(("cds", "open_"), [([30.0, 31.0, 32.1], False), ([25.5, 26.0, 26.5], True), ([30.0], False)])
def test_the_control_is_set_against_the_methods_of_one_view(finish, cds, open_):
    """What CDS gains over them is open where the control is above them and CDS is not above the control."""
    said = finish(cds, [25.0, 26.0, 27.0], dsn=[24.0, 25.0, 26.0])[-1]
    assert "The control minus them: DSN +1.00 [+1.00, +1.00] (n = 3)." in said
    assert said.endswith("What CDS gains over DSN may come from the second view as well.") == open_
    below = finish(cds, [25.0, 26.0, 27.0], dsn=[34.0, 35.0, 36.0])[-1]
    assert "DSN −9.00" in below and "second view as well" not in below


def test_a_gain_over_the_baseline_may_be_the_views_only_where_there_is_a_gain(finish):
    said = "What CDS gains over the baseline may come from the second view."
    assert said in finish([25.5, 26.0, 26.5], [25.0, 26.0, 27.0], baseline=[20.0, 21.0, 22.0])[0]
    assert said not in finish([25.5, 26.0, 26.5], [25.0, 26.0, 27.0], baseline=[30.0, 31.0, 32.0])[0]
    assert said not in finish([30.0, 31.0, 32.0], [25.0, 26.0, 27.1], baseline=[20.0, 21.0, 22.0])[0]


def test_the_control_is_explained_first_whichever_form_was_run(finish):
    (alone,) = finish([], [25.0, 26.0, 27.0], cds_two_ce_views=[20.0, 21.0, 22.1])
    assert alone.startswith("A control that is not in the paper, ") and "26.00 ± 1.00 (3). CDS with the cross-" in alone


def test_the_full_protocol_planned_all_forms_beforehand(finish):
    row = "cds_two_ce_views_weight_tenth"
    (said,) = finish([], [25.0, 26.0, 27.0], "paper", **{row: [30.0, 31.0, 32.1]})
    assert "second try" not in said and said.endswith("the contrastive losses add to what two views give.")


ABOVE, BELOW, LEVEL = [30.0, 31.0, 32.1], [20.0, 21.0, 22.1], [25.5, 26.0, 26.5]


@pytest.mark.parametrize(
    ("test", "validation", "meaning"),
    [
        (ABOVE, ABOVE, "+5.03 [+4.89, +5.18] (n = 3, p = 0.250): above the control there too."),
        (ABOVE, LEVEL, "not told apart there, which does not support the test images."),
        (ABOVE, BELOW, "below the control there, the opposite of the test images."),
        (LEVEL, ABOVE, "above the control there, which the test images leave open."),
        (LEVEL, LEVEL, "not told apart there either."),
        (LEVEL, BELOW, "below the control there, which the test images leave open."),
        (BELOW, ABOVE, "above the control there, the opposite of the test images."),
        (BELOW, LEVEL, "not told apart there, which does not support the test images."),
        (BELOW, BELOW, "below the control there too."),
    ],
)
def test_the_images_that_chose_nothing_stand_beside_the_test_images(finish, test, validation, meaning):
    two_views = [25.0, 26.0, 27.0]
    seen = {"cds": validation, control.SWITCH: two_views}
    (said,) = finish(test, two_views, validation=seen)
    _, beside = said.split(" On their 2,000 validation images: ")
    assert beside.endswith(meaning)


@pytest.mark.parametrize(
    ("validation", "meaning"),
    [(ABOVE, "support for the hint"), (LEVEL, "no support for the hint"), (BELOW, "the opposite of the hint")],
)
def test_a_hint_of_the_test_images_needs_the_support_of_others(finish, validation, meaning):
    row, two_views = "cds_two_ce_views_weight_tenth", [25.0, 26.0, 27.0]
    (said,) = finish([], two_views, validation={row: validation, control.SWITCH: two_views}, **{row: ABOVE})
    assert "no more than a hint" in said and said.endswith(f": {meaning}.")


def test_the_methods_of_one_view_have_both_differences(finish):
    two_views = [25.0, 26.0, 27.0]
    seen = {"cds": LEVEL, control.SWITCH: two_views, "dks": [21.0, 22.0, 23.0]}
    said = finish(LEVEL, two_views, validation=seen, dks=[24.0, 25.0, 26.0])[-1]
    assert "DKS +1.00 [+1.00, +1.00] (n = 3; validation +4.00 [+4.00, +4.00])." in said


def test_validation_images_of_too_few_seeds_decide_nothing(finish):
    said = finish([30.0, 31.0], [25.0, 26.0], validation={"cds": [30.0, 31.0], control.SWITCH: [25.0, 26.0]})
    assert said[0].endswith("fewer than 3 seeds decide nothing.") and "validation" not in said[0]


def test_nothing_is_said_without_both_or_of_smoke_numbers(finish, tmp_path):
    assert control.sentences("mini", None, Store(tmp_path)) == []
    assert finish([30.0], []) == []
    assert finish([30.0], [20.0], "smoke") == []


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
    assert "Of the 3 cells (data set and share of labels) with 3 seeds or more, CDS without labels is above " in ahead
    assert ahead.endswith("above that control in 1, below it in 1, and not told apart from it in 1.")
    assert cifar100 == (
        "CIFAR-100, CDS against the baseline of as many steps: 10 % labelled +2.10 [+1.85, +2.35] (n = 3), "
        "40 % labelled −2.10 [−2.35, −1.85] (n = 3)."
    )
    assert "20 % labelled +0.17 [−2.96, +3.29] (n = 3), 30 % labelled +5.00" in cifar10
    assert control.sentences("mini", None, store) == [ahead] and control.as_many_steps("smoke", None, store) == []


def test_the_index_counts_the_seeds_that_were_asked_for(finish, tmp_path):
    finish([30.0, 31.0, 32.0, 50.0], [25.0, 26.0, 27.0, 28.0])
    store, seeds = Store(tmp_path), (0, 1, 2)
    summary.write(verdicts.tidy("mini", seeds, store), tmp_path, remarks.sentences("mini", seeds, store))
    page = render.write_index(tmp_path, "mini", seeds).read_text(encoding="utf-8")
    assert "26.00 ± 1.00 (3)" in page and "(n = 4" not in page


def test_where_no_cell_can_be_told_apart_it_is_said_so(tmp_path):
    store = Store(tmp_path)
    for seed, gain in enumerate((-1.0, 0.0, 1.5)):
        for dataset in ("cifar10", "cifar100"):
            for method, value in (("baseline_matched", 20.0), ("cds_simclr", 20.0 + gain)):
                write_run(store, settings.semi_supervised("mini", dataset, method, 20, seed), top1(value))
    said = control.as_many_steps("mini", None, store)[0]
    assert "In none of the 2 cells (data set and share of labels) with 3 seeds or more" in said
    assert said.endswith(" can CDS without labels and that control be told apart.")
    assert control._told_apart([comparisons.OPEN]) == (
        "In the cell (data set and share of labels) with 3 seeds or more, CDS without labels and that control cannot "
        "be told apart."
    )
