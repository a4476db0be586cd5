"""What a notebook opens: wherever it is opened, the folders are those of the checkout."""

from pathlib import Path

import pytest

from cds_lib.errors import UsageError
from cds_lib.session import open_study

ROOT = Path(__file__).resolve().parents[1]


def folders(**arguments):
    study = open_study("table1_cifar100", profile="mini", **arguments)
    return study.store.root, study.data_root


def test_folders_start_at_the_checkout_and_not_where_the_kernel_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDS_DATA_ROOT", raising=False)
    assert folders() == (ROOT / "results" / "mini", ROOT / "data")
    assert folders(results="results/mine", data_root="images") == (ROOT / "results" / "mine", ROOT / "images")
    assert folders(results=str(tmp_path), data_root=str(tmp_path)) == (tmp_path, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders(results="~/mine", data_root="~/images") == (tmp_path / "mine", tmp_path / "images")
    assert folders(results="~no such user", data_root="~no such user") == (ROOT / "~no such user",) * 2
    monkeypatch.setenv("CDS_DATA_ROOT", "/volume/data")
    assert folders()[1] == Path("/volume/data")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"jobs": -1}, "jobs must be a whole number"),
        ({"jobs": "2"}, "jobs must be a whole number"),
        ({"processes": 0}, "processes must be a whole number, 1 or more, not 0"),
        ({"processes": "2"}, "processes must be a whole number"),
        ({"seeds": (0, 1)}, "seeds must be a text"),
        ({"seeds": "0,x"}, "Seeds must be whole numbers"),
        ({"profile": "big"}, "Unknown profile 'big'"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        open_study("table1_cifar100", **arguments)
