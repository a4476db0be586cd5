"""The claims of Table 1 on validation images: what the runs say, and nothing where they held no images back."""

import pytest

from cds_lib.findings import held_out
from cds_lib.study.store import Store
from cds_lib.study.tables import deviations
from run_folders import top1, write_run


@pytest.fixture
def finish(tmp_path):
    """finish(method=values by seed): the sentences; test accuracies are the opposite, so that mixing them up shows."""

    def run(profile="mini", metric="val_top1_last", **methods):
        store = Store(tmp_path)
        for method, values in methods.items():
            for seed, value in enumerate(values):
                write_run(store, deviations.default_run(profile, method, seed), top1(100 - value) | {metric: value})
        return held_out.sentences(profile, None, store)

    return run


def test_cds_is_set_against_each_method_and_what_is_open_is_named(finish):
    (text,) = finish(cds=[30.0, 31.0, 32.0], baseline=[28.0, 29.0, 30.0], dsn=[29.0, 31.0, 33.0], dhm=[1.0, 2.0])
    assert "Top-1 on the 2,000 validation images" in text
    assert "baseline +2.00 [+2.00, +2.00] (n = 3), DSN 0.00 [−2.48, +2.48] (n = 3)." in text
    assert text.endswith("So there CDS is not above DSN by an interval that excludes 0.") and "DHM" not in text


def test_what_is_confirmed_there_too_needs_no_second_sentence(finish):
    (text,) = finish(cds=[30.0, 31.0, 32.0], baseline=[28.0, 29.0, 30.0])
    assert text.endswith("baseline +2.00 [+2.00, +2.00] (n = 3).")


@pytest.mark.parametrize("given", [{"metric": "other"}, {"profile": "smoke"}])
def test_nothing_is_said_without_such_images_or_in_smoke(finish, given):
    assert finish(cds=[30.0, 31.0, 32.0], baseline=[28.0, 29.0, 30.0], **given) == []
