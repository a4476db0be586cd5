import hashlib
import re
from pathlib import Path

import pytest
import torchvision

from cds_lib.study.data import layouts, registry

CIFAR = ("cifar10", "cifar100")
SIZES = {  # classes, training and test images, as published
    "cifar10": (10, 50000, 10000),
    "cifar100": (100, 50000, 10000),
    "imagenet": (1000, 1281167, 50000),
    "cub200": (200, 5994, 5794),
    "stanford_cars": (196, 8144, 8041),
    "flowers102": (102, 2040, 6149),  # training and validation images together
    "stanford_dogs": (120, 12000, 8580),
    "fgvc_aircraft": (100, 6667, 3333),
    "coco": (80, 118287, 5000),
}


def test_the_nine_sets_and_their_sizes():
    known = list(registry.entries().items())[: len(SIZES)]  # others may come after these
    assert [(name, (entry.classes, entry.train, entry.test)) for name, entry in known] == list(SIZES.items())


def test_archives_agree_with_torchvision():
    flowers, aircraft = torchvision.datasets.Flowers102, torchvision.datasets.FGVCAircraft
    ours = {archive.name: archive for name in SIZES for archive in registry.entry(name).archives}
    for file, md5 in flowers._file_dict.values():
        assert (ours[file].md5, ours[file].url) == (md5, flowers._download_url_prefix + file)
    assert ours["fgvc-aircraft-2013b.tar.gz"].url == aircraft._URL
    for file, md5 in torchvision.datasets.imagenet.ARCHIVE_META.values():
        assert ours[file].md5 == md5


@pytest.mark.parametrize("name", CIFAR)
def test_entry_agrees_with_torchvision(name):
    datasets = torchvision.datasets
    reference = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    known = registry.entry(name)
    assert known.folder == reference.base_folder
    assert (known.archives[0].name, known.archives[0].md5) == (reference.filename, reference.tgz_md5)
    assert known.archives[0].url == reference.url
    for part, listed in (("train", reference.train_list), ("test", reference.test_list)):
        assert [[file.name, file.md5] for file in known.files if file.part == part] == listed
    assert [(f.name, f.md5) for f in known.files if f.part == "meta"] == [
        (reference.meta["filename"], reference.meta["md5"])
    ]


def test_every_entry_is_well_formed():
    for name, known in registry.entries().items():
        assert known.name == name and re.fullmatch(r"[a-z0-9_]+", name)
        assert known.layout in ("", "coco", *layouts.READERS)  # "": the set can only be imported
        assert known.classes > 1 and known.train >= known.classes and known.test >= known.classes
        assert known.terms and known.manual and known.page.startswith(("https://", "http://vision.stanford.edu/"))
        assert {file.part for file in known.files} <= {"train", "test", "meta"}
        for md5 in [one.md5 for one in (*known.archives, *known.files)]:
            assert re.fullmatch("[0-9a-f]{32}", md5) and md5 != hashlib.md5().hexdigest()
        for archive in known.archives:
            assert archive.url == "" or archive.url.startswith("http")
            assert Path(archive.name).name == archive.name
            assert archive.into == "" or Path(archive.into).parts[0] == known.folder
        if not all(archive.url for archive in known.archives):
            assert "put them into the data folder" in known.manual


def test_data_root_argument_then_environment_then_default(monkeypatch):
    monkeypatch.setenv("CDS_DATA_ROOT", "elsewhere")
    assert registry.data_root("here") == Path("here") and registry.data_root() == Path("elsewhere")
    monkeypatch.delenv("CDS_DATA_ROOT")
    assert registry.data_root() == Path(registry.__file__).parents[3] / "data"  # in any working directory
    monkeypatch.setenv("HOME", "/home/someone")
    assert registry.data_root("~/images") == Path("/home/someone/images")


def test_the_data_command_needs_no_numpy(python):
    program = "import sys, cds_lib.study.data.registry, cds_lib.study.data.cli; print('numpy' in sys.modules)"
    assert python(program) == "False"
