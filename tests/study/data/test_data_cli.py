import argparse
import hashlib
import pickle

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data.cli import add_parser
from toys import write_images


@pytest.fixture
def run(tiny_registry, tmp_path, capsys, monkeypatch):
    """Return run(*words) -> (exit code, stdout), with the tiny registry and data folder."""
    monkeypatch.setenv("CDS_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.delenv("CDS_OFFLINE", raising=False)

    def run(*words):
        parser = argparse.ArgumentParser()
        add_parser(parser.add_subparsers(), lambda known, root: None)
        args = parser.parse_args(["data", *map(str, words)])
        return args.handler(args), capsys.readouterr().out

    return run


def held(folder, classes=100):
    def image(part, label, number):
        return np.full((32, 32, 3), label + number, np.uint8)

    return write_images(folder, {"train": 2, "test": 1}, [f"{label:02d}" for label in range(classes)], image)


def row(text, name):
    return next(line for line in text.splitlines() if line.startswith(name + " "))


def test_list_says_what_is_there(run, tmp_path, tiny10, tiny100):
    code, text = run("list")
    assert code == 0 and "not there" in row(text, "cifar10") and "not there" in row(text, "cifar100")
    assert str(tmp_path / "data") in text and "data fetch NAME" in text
    tiny10.write(tmp_path / "data")
    folder = tiny100.write(tmp_path / "data")
    (folder / "meta").write_bytes(pickle.dumps(tiny100.contents["meta"]))
    _, text = run("list")
    assert "complete, verified" in row(text, "cifar10") and "cifar-10-batches-py" in row(text, "cifar10")
    assert "complete, not verified" in row(text, "cifar100")
    (folder / "test").write_bytes(b"")
    assert "BROKEN (data verify cifar100)" in row(run("list")[1], "cifar100")


def test_import_of_a_subset(run, tmp_path):
    folder = held(tmp_path / "data" / "cifar100", classes=5)
    assert "folders, not imported" in row(run("list")[1], "cifar100")
    code, text = run("import", "cifar100", "--folder", folder)
    assert code == 0 and "a SUBSET, 5 of 100 classes, 10 of 200 training and 5 of 100 test images" in text
    assert "subset (10 + 5), not verified" in row(run("list")[1], "cifar100")
    code, text = run("verify", "cifar100")
    assert code == 1 and "10 of 200 training and 5 of 100 test images" in text


def test_import_beside_the_official_files_says_which_come_first(run, tmp_path, tiny100):
    code, text = run("import", "cifar100", "--folder", held(tmp_path / "held"))
    assert code == 0 and "complete, 100 of 100 classes, 200 of 200 training and 100 of 100 test images" in text
    code, text = run("verify", "cifar100")
    assert code == 0 and "OK: imported from image folders, complete" in text
    (tmp_path / "data" / "imported" / "cifar100").rename(tmp_path / "data" / "before")
    tiny100.write(tmp_path / "data")
    assert "come first" in run("import", "cifar100", "--folder", tmp_path / "held")[1]
    assert "OK: official layout" in run("verify", "cifar100")[1]


def test_fetch_then_verify(run, tmp_path, mirror, tiny_registry, tiny100, tools):
    mirror.files["/x"] = tiny100.archive
    archive = {tiny100.entry.archives[0].name: tiny100.archive}
    tiny_registry["cifar100"] = tools.with_archives(tiny100.entry, archive, mirror.url("/x"))
    with pytest.raises(UsageError, match="offline"):
        run("fetch", "cifar100", "--offline")
    code, text = run("fetch", "cifar100")
    assert code == 0 and text.strip() == str(tmp_path / "data" / "cifar-100-python")
    code, text = run("verify", "cifar100")
    assert code == 0 and text.startswith("CIFAR-100: OK: official layout, complete, every checksum")


def test_verify_says_what_is_missing(run, tmp_path, tiny100):
    code, text = run("verify", "cifar100")
    assert code == 1 and "CIFAR-100 is not in" in text and "data fetch cifar100" in text
    assert text.splitlines()[-1] == "CIFAR-100: cannot be used"
    tiny100.write(tmp_path / "other")  # the option takes precedence over the variable
    assert run("verify", "cifar100", "--data-root", tmp_path / "other")[0] == 0


def test_verify_says_everything_that_is_wrong(run, tmp_path, tiny10):
    folder = tiny10.write(tmp_path / "data")
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_4").write_bytes(tiny10.files["data_batch_4"][:99])
    (folder / "test_batch").write_bytes(pickle.dumps(tiny10.contents["test_batch"]))
    code, text = run("verify", "cifar10")
    lines = text.splitlines()
    assert code == 1 and len(lines) == 5 and lines[-1] == "CIFAR-10: cannot be used"
    assert "data_batch_2 is missing" in lines[0]
    for name, line in (("data_batch_4", lines[1]), ("test_batch", lines[2])):
        assert f"{name}: checksum not the published one" in line
        assert hashlib.md5(tiny10.files[name]).hexdigest() in line
    assert "data_batch_2 cannot be read" in lines[3] and "run `python -m cds_lib data fetch cifar10`" in lines[3]


def test_verify_of_a_repacked_copy(run, tmp_path, tiny100):
    folder = tiny100.write(tmp_path / "data")
    (folder / "train").write_bytes(pickle.dumps(tiny100.contents["train"]))
    code, text = run("verify", "cifar100")
    assert code == 1 and "CIFAR-100: usable, but not as published: official layout, complete" in text
    assert "verified" not in text


@pytest.mark.parametrize("words", [["fetch", "cifar"], ["verify", "cifar"], ["import", "cifar", "--folder", "x"]])
def test_unknown_set(run, words):
    with pytest.raises(UsageError, match="unknown data set 'cifar'; known are: cifar10, cifar100"):
        run(*words)
