"""A user's own run is found, changed, trained and shown beside the study's run, and enters no table."""

import json
from pathlib import Path

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.cli import main
from cds_lib.study.commands import own
from cds_lib.study.plan import settings

CDS = settings.supervised("mini", "cifar100", "resnet18", "cds")


def test_values_are_what_the_methods_and_the_budget_take():
    changes = own.parse(["weight=1", "taps=1,2,3", "epochs=2", "source=standin", "lr=1", "milestones=1,2"])
    spec = own.changed(CDS, changes)
    assert (spec.options["weight"], spec.options["taps"]) == (1.0, [1, 2, 3]) and type(spec.options["weight"]) is float
    assert (spec.budget.epochs, spec.budget.source, spec.budget.milestones) == (2, "standin", (1, 2))
    assert type(spec.budget.lr) is float and spec.options["temperature"] == CDS.options["temperature"]
    assert own.changed(CDS, own.parse(["taps=4"])).options["taps"] == [4]
    assert own.changed(CDS, {"weight": CDS.options["weight"], "taps": (1, 2, 3, 4)}).id == CDS.id


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("weigth=1", "cds has no option 'weigth': choose from taps, weight, temperature, .*of the budget from source"),
        ("use_labels=False", "cds has no option 'use_labels'"),  # this option defines the method
        ("weight=heavy", "weight is float, not 'heavy'"),
        ("epochs=1.5", "epochs is int, not 1.5"),
        ("milestones=x", r"milestones is .*, not \('x',\)"),
        ("epochs=0", "epochs and eval_every must be 1 or more"),
        ("lr=1e999", "lr must be a finite number, not inf"),
        ("val_seed=-1", "val_seed must be 0 or more"),
        ("weight", "--set wants NAME=VALUE"),
    ],
)
def test_options_that_nothing_has_are_one_sentence(assignment, says):
    with pytest.raises(UsageError, match=says):
        own.changed(CDS, own.parse([assignment]))


def test_the_run_is_that_of_a_table_where_one_has_it():
    table, cell = own.find("mini", "cifar100", "resnet18", "cds")
    assert table.name == "table1_cifar100" and cell.run == CDS
    assert own.find("mini", "cifar10", "resnet18", "cds")[0].name == "table2_cifar10"
    assert own.find("mini", "cifar100", "resnet18", "cds_simclr", "semi_20")[1].run.labelled == 0.2
    assert own.find("mini", "coco", "retinanet", "dsn")[0].name == "table4_coco"
    _, free = own.find("mini", "cifar100", "resnet34", "cds")  # not in any table
    assert free.run == settings.supervised("mini", "cifar100", "resnet34", "cds")
    distilled = settings.distilled("paper", "cifar10", "resnet18", "kd")
    assert own.find("paper", "cifar10", "resnet18", "kd")[1].run == distilled


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("cifar1000", "resnet18", "cds"), "no data set 'cifar1000': .* line to DATASETS in cds_lib"),
        (("cifar100", "resnet19", "cds"), "no network 'resnet19'"),
        (("cifar100", "resnet18", "cdss"), "no method 'cdss'"),
        (("coco", "resnet18", "cds"), "No table trains resnet18 with cds on coco"),
        (("cifar100", "resnet18", "cds", "semi_99"), "in the setting 'semi_99'"),
    ],
)
def test_names_that_nothing_has_are_one_sentence(names, says):
    with pytest.raises(UsageError, match=says):
        own.find("smoke", *names)


def test_the_command_trains_one_run_beside_the_studys(tmp_path, capsys, monkeypatch):
    study, mine = tmp_path / "study", tmp_path / "mine"
    monkeypatch.setattr("cds_lib.study.commands.own.results_dir", lambda profile, argument=study: Path(argument))
    command = ["train", "--dataset", "cifar10", "--model", "resnet18", "--method", "cds", "--seed", "3"]
    assert main([*command, "--results", str(study)]) == 0  # the study's own run
    more = ["--set", "taps=1,2,3", "--set", "epochs=1", "--results", str(mine)]
    assert main([*command, *more]) == 0
    (folder,) = (mine / "runs").iterdir()
    assert json.loads((folder / "spec.json").read_text())["options"]["taps"] == [1, 2, 3]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    (theirs,) = (study / "runs").iterdir()
    assert rows[0][:3] == ["cds,", "taps", "[1,"] and rows[0][-1] == folder.name
    assert (rows[1][0], rows[1][-1]) == ("cds", theirs.name) and not (mine / "tables").exists()
    before = (folder / "metrics.json").stat().st_mtime_ns
    assert main([*command, *more]) == 0  # this time it is only read
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    assert main([*command, "--set", "width=x", "--results", str(mine)]) == 2
    assert "width is float, not 'x'" in capsys.readouterr().err
