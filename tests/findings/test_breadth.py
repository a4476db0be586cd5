"""All networks of a table together: each counts once, by the mean of its seed-by-seed differences."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from scipy import stats

from cds_lib.findings import breadth
from cds_lib.reporting import formats
from cds_lib.study import settings
from cds_lib.study.catalogue import DEEP_SUPERVISION
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from run_folders import top1, write_run

TABLE = TABLES["table1_cifar100"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def measure(store, network, method, *accuracies, profile="mini", loss=1.0):
    """Write finished runs with these accuracies, seed 0 first, which end with this training cross-entropy."""
    for seed, accuracy in enumerate(accuracies):
        spec = settings.supervised(profile, "cifar100", network, method, seed)
        write_run(store, spec, top1(accuracy), history=f"epoch,train_cross_entropy\n1,4.0\n2,{loss + seed / 10}\n")


def three_networks(store, profile="mini"):
    """CDS differs from the baseline by +2 on average, by +1 and by -0.5."""
    measure(store, "resnet18", "baseline", 20.0, 21.0, profile=profile)
    measure(store, "resnet18", "cds", 21.0, 24.0, profile=profile)
    measure(store, "resnet50", "baseline", 15.0, profile=profile)
    measure(store, "resnet50", "cds", 16.0, profile=profile)
    measure(store, "seresnet18", "baseline", 18.0, profile=profile)
    measure(store, "seresnet18", "cds", 17.5, profile=profile)


def test_the_methods_that_are_named_are_those_of_the_table():
    assert {method for comparison in breadth.COMPARISONS for method in comparison} == set(DEEP_SUPERVISION)


def test_each_network_counts_once(store):
    three_networks(store)
    (row,) = breadth.together(TABLE, "mini", None, store).itertuples()
    assert (row.method, row.reference, row.networks, row.above) == ("cds", "baseline", 3, 2)
    expected = stats.ttest_1samp([2.0, 1.0, -0.5], 0.0).confidence_interval(0.95)
    assert row.delta == pytest.approx(2.5 / 3)
    assert (row.ci_low, row.ci_high) == pytest.approx(tuple(expected))
    assert row.p_value == pytest.approx(4 / 8)  # of eight sign patterns four have a mean at least as far from 0


def test_two_networks_say_nothing(store):
    measure(store, "resnet18", "baseline", 20.0)
    measure(store, "resnet50", "baseline", 20.0)
    measure(store, "resnet18", "cds", 21.0)
    measure(store, "resnet50", "cds", 21.0)
    measure(store, "resnet101", "cds", 21.0)  # without a baseline
    assert breadth.together(TABLE, "mini", None, store).empty and not breadth.in_short("mini", None, store)
    study = SimpleNamespace(table=TABLE, profile="mini", seeds=None, store=store)
    assert breadth.shown(study).data == ""


def test_cds_is_compared_with_every_other_method(store):
    for network in ("resnet18", "resnet50", "resnet101"):
        for method, accuracy in (("baseline", 20.0), ("dsn", 22.0), ("dks", 23.0), ("cds", 22.5)):
            measure(store, network, method, accuracy)
    every, each = breadth.grids(TABLE, "mini", None, store)
    assert [row[0] for row in every.rows] == [
        "DSN against the baseline", "DKS against the baseline", "CDS against the baseline", "CDS against DSN",
        "CDS against DKS",
    ]  # fmt: skip
    assert every.rows[3] == ("CDS against DSN", "3 of 3", "+0.50 [+0.50, +0.50]", "0.250")
    assert "no verdict rests on this" in every.notes[0] and "ResNet-18 and CIFAR-100 alone" in every.notes[0]
    assert each.rows[0] == ("ResNet-18 (1 seed)", "20.00", "22.00", "22.50", "1.00", "1.00")
    (said,) = breadth.in_short("mini", None, store)
    assert "CDS minus the baseline +2.50 [+2.50, +2.50], above 0 in 3 of 3; CDS minus DSN +0.50" in said
    study = SimpleNamespace(table=TABLE, profile="mini", seeds=None, store=store)
    assert '<th scope="row">CDS against DKS</th><td class="number">0 of 3</td>' in breadth.shown(study).data


def test_a_faster_fit_is_not_called_regularisation(store):
    for network, without, with_cds in (("resnet18", 1.0, 1.2), ("resnet50", 2.5, 2.25), ("resnet101", 3.0, 2.0)):
        measure(store, network, "baseline", 20.0, 20.0, loss=without)
        measure(store, network, "cds", 22.0, loss=with_cds)  # the second seed of the baseline has no partner
    measure(store, "seresnet18", "cds", 22.0)
    each = breadth.grids(TABLE, "mini", None, store)[-1]
    assert [row[-2:] for row in each.rows] == [("1.00", "1.20"), ("2.50", "2.25"), ("3.00", "2.00")]
    assert "With CDS ResNet-50 and ResNet-101 fit the training images better than without" in each.notes[-1]
    (said,) = breadth.in_short("mini", None, store)
    assert "In 2 of 3 CDS fits the training images better than the baseline: a faster fit" in said
    assert "less well" not in said  # one seed of ResNet-18 decides nothing
    measure(store, "resnet18", "baseline", 20.0, 20.0, 20.0, loss=1.0)
    measure(store, "resnet18", "cds", 22.0, 22.0, 22.0, loss=1.2)
    assert breadth.in_short("mini", None, store)[0].endswith(" With ResNet-18 (3 seeds) it fits them less well.")
    for network in ("resnet50", "resnet101"):
        measure(store, network, "cds", 22.0, loss=3.5)
    assert "In none does CDS fit" in breadth.grids(TABLE, "mini", None, store)[-1].notes[-1]
    assert "faster fit" not in breadth.in_short("mini", None, store)[0]


def test_smoke_numbers_say_nothing_and_those_of_the_paper_profile_were_not_tuned(store):
    three_networks(store, "smoke")
    three_networks(store, "paper")
    assert not breadth.in_short("smoke", None, store) and not breadth.grids(TABLE, "smoke", None, store)
    every, each = breadth.grids(TABLE, "paper", None, store)
    assert "chosen on" not in every.notes[0] and "differ in width" not in each.notes[-1]


def test_a_table_without_some_of_the_methods(store):
    three_networks(store)
    few = replace(
        TABLE, build=lambda *which: [cell for cell in TABLE.build(*which) if cell.method in ("baseline", "cds")]
    )
    (row,) = breadth.together(few, "mini", None, store).itertuples()
    assert (row.method, row.reference, row.networks) == ("cds", "baseline", 3)
    every, each = breadth.grids(few, "mini", None, store)
    assert [line[2] for line in each.rows] == [formats.EMPTY] * 3  # DSN's accuracy
    alone = replace(TABLE, build=lambda *which: [cell for cell in TABLE.build(*which) if cell.method == "baseline"])
    assert breadth.together(alone, "mini", None, store).empty and breadth.grids(alone, "mini", None, store) == []
