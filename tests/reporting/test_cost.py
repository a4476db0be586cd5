"""What methods took beside the baseline, from the seconds of their runs."""

import pandas as pd

from cds_lib.reporting import cost


def test_multiples_are_those_of_the_same_place_and_a_range_where_networks_differ():
    rows = [("resnet18", "baseline", "supervised", 10.0), ("resnet18", "cds", "supervised", 21.0)]
    rows += [("resnet50", "baseline", "supervised", 20.0), ("resnet50", "cds", "supervised", 60.0)]
    rows += [("resnet18", "kd", "distill", 13.0), ("resnet50", "dsn", "supervised", None)]
    frame = pd.DataFrame(rows, columns=["model", "method", "setting", "seconds"]).assign(dataset="cifar100")
    assert "apart): CDS 2.1 to 3.0; KD 1.3." in cost.sentence(frame)


def test_before_anything_has_finished_it_says_nothing():
    assert cost.sentence(pd.DataFrame({"method": ["baseline"], "dataset": ["cifar100"]})) == ""
