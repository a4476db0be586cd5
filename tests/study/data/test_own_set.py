"""A data set added by a user: a minimal entry, and class folders that are imported and read."""

from dataclasses import replace

import numpy as np
import pytest

from cds_lib.errors import UsageError
from cds_lib.study import cli
from cds_lib.study.data import folders, registry, sets
from cds_lib.study.engines import runner
from cds_lib.study.plan import catalogue, settings
from toys import write_images

ENTRY = """[shapes]
title = "Shapes"
page = "https://example.org/"
terms = "None."
manual = "Draw them yourself."
classes = 2
train = 8
test = 4
"""


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Return a function that writes an entry to the registry file."""

    def write(text):
        path = tmp_path / "registry.toml"
        path.write_text(text)
        monkeypatch.setattr(registry, "REGISTRY", path)

    return write


@pytest.mark.parametrize(("line", "side", "family"), [("image_size = 32\n", 32, "cifar"), ("", 40, "imagenet")])
def test_it_is_imported_listed_and_read_as_by_its_runs(register, tmp_path, monkeypatch, capsys, line, side, family):
    register(ENTRY + line)
    monkeypatch.setitem(catalogue.DATASETS, "shapes", catalogue.DataSet("Shapes", family))
    root, held = tmp_path / "data", tmp_path / "held"
    root.mkdir()
    drawn = np.random.default_rng(0)

    def image(part, label, number):
        return drawn.integers(0, 256, (side, side, 3), dtype=np.uint8)

    write_images(held, {"train": 4, "test": 2}, ("circle", "square"), image)
    usual = settings.supervised("mini", "shapes", "resnet18", "cds", 0)
    spec = replace(usual, budget=replace(usual.budget, val_size=4, batch_size=4))
    assert "Shapes is not in" in runner._without_data([spec], root)[spec.id]
    assert folders.import_folder(registry.entry("shapes"), held, root)["complete"]
    assert "Shapes has 8 training images here" in runner._without_data([usual], root)[usual.id]
    assert runner._without_data([spec], root) == {}
    for command in (["list"], ["verify", "shapes"]):
        assert cli.main(["data", *command, "--data-root", str(root)]) == 0
        assert "complete" in capsys.readouterr().out
    data = sets.load("shapes", root, "real", spec.budget.stored_size)
    assert data.train_images.shape == (8, 3, spec.budget.stored_size, spec.budget.stored_size)
    assert data.class_names == ("circle", "square") and data.provenance["kind"] == "imported"


def test_what_an_entry_lacks_is_named(register):
    register('[shapes]\ntitle = "Shapes"\nclasses = 2\ntrain = 8\npage = "p"\nterms = "t"\n')
    with pytest.raises(UsageError, match=r"^registry\.toml: the entry of 'shapes' .*: 'manual' and 'test'"):
        registry.entries()


def test_layouts_that_cannot_be_read_are_refused(register, tmp_path):
    register(ENTRY + 'image_size = 32\nlayout = "cub"\nfolder = "s"\n')
    (tmp_path / "s").mkdir()
    with pytest.raises(UsageError, match=r"^Shapes has the layout 'cub' .* or not for image_size = 32"):
        sets.load_files("shapes", tmp_path)
    register(ENTRY + 'layout = "folders"\nfolder = "s"\n')
    says = r"^Shapes has the layout 'folders' in registry\.toml, and layouts\.py does not"
    with pytest.raises(UsageError, match=says):
        sets.load_files("shapes", tmp_path)
