"""What methods cost beside the baseline, from the counted operations of their runs."""

import re

import pytest

from cds_lib.reporting import cost, naming
from cds_lib.study import costs, settings
from cds_lib.study.tables import TABLES


def test_networks_that_differ_give_a_range_and_the_multiples_are_those_of_the_runs():
    def multiple(model):
        run = {m: settings.supervised("paper", "cifar100", model, m, 0) for m in ("baseline", "cds")}
        return costs.run_cost(run["cds"]).train_flops / costs.run_cost(run["baseline"]).train_flops

    text = cost.sentence(TABLES["table1_cifar100"], "paper")
    least, most = text.split("; CDS ")[1].removesuffix(".").split(" to ")
    assert float(least) <= round(multiple("resnet18"), 1) < round(multiple("resnet50"), 1) <= float(most)
    assert float(least) > 2  # two views, and heads


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
@pytest.mark.parametrize("name", ["table3_imagenet", "table7_imagenet_distillation", "semi_supervised"])
def test_every_method_of_a_table_has_its_cost(name, profile):
    table = TABLES[name]
    methods = {naming.method_name(cell.method) for cell in table.cells(profile, None)}
    assert methods - set(multiples(table, profile)) == {naming.method_name("baseline")}


def test_distilled_cds_has_two_views_and_a_teacher():
    found = multiples(TABLES["distillation_cifar100"], "mini")
    assert found["CDS, distilled"] > found["CDS"] > 2 and found["CDS, distilled"] > found["KD"] > 1


def multiples(table, profile):
    """Method -> the most that its training takes."""
    parts = cost.sentence(table, profile).split("): ")[1].removesuffix(".").split("; ")
    found = [re.fullmatch(r"(.*?) (?:[\d.]+ to )?([\d.]+)", part).groups() for part in parts]
    return {name: float(most) for name, most in found}
