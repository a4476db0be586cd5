import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cds_lib.data import registry
from cds_lib.errors import UsageError

CHECKSUMS = {  # the published ones, copied from torchvision's class attributes
    "cifar10": "c58f30108f718f92721af3b95e74349a",
    "cifar100": "eb9058c3a382ffc7106e4002c42a8d85",
}


def test_the_published_archives():
    known = registry.entries()
    assert {name: known[name].archives[0].md5 for name in CHECKSUMS} == CHECKSUMS
    assert (known["cifar100"].classes, known["cifar100"].train, known["cifar100"].test) == (100, 50000, 10000)
    assert (known["cifar10"].classes, known["cifar10"].train, known["cifar10"].test) == (10, 50000, 10000)


@pytest.mark.parametrize("name", CHECKSUMS)
def test_entry_agrees_with_torchvision(name):
    datasets = pytest.importorskip("torchvision.datasets")
    reference = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    known = registry.entry(name)
    assert known.folder == reference.base_folder
    assert (known.archives[0].file, known.archives[0].md5) == (reference.filename, reference.tgz_md5)
    assert known.archives[0].urls[0] == reference.url
    for part, listed in (("train", reference.train_list), ("test", reference.test_list)):
        assert [[file.path, file.md5] for file in known.part(part)] == listed
    assert [(f.path, f.md5) for f in known.part("meta")] == [(reference.meta["filename"], reference.meta["md5"])]


def test_every_entry_is_well_formed():
    for name, known in registry.entries().items():
        assert known.name == name and re.fullmatch(r"[a-z0-9_]+", name)
        assert known.layout in registry.LAYOUTS
        assert known.classes > 1 and known.train >= known.classes and known.test >= known.classes
        assert known.terms and known.manual and known.page.startswith("https://")
        assert {file.part for file in known.files} == {"train", "test", "meta"}
        for md5 in [a.md5 for a in known.archives] + [f.md5 for f in known.files]:
            assert re.fullmatch("[0-9a-f]{32}", md5) and md5 != hashlib.md5().hexdigest()
        for archive in known.archives:
            assert archive.urls and all(url.startswith("https://") for url in archive.urls)
            assert Path(archive.file).name == archive.file


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="unknown data set 'cifar1000'; known are: cifar10, cifar100"):
        registry.entry("cifar1000")


def test_data_root_argument_then_environment_then_default(monkeypatch):
    monkeypatch.setenv("CDS_DATA_ROOT", "elsewhere")
    assert registry.data_root("here") == Path("here")
    assert registry.data_root() == Path("elsewhere")
    monkeypatch.delenv("CDS_DATA_ROOT")
    assert registry.data_root() == Path("data")
    monkeypatch.setenv("HOME", "/home/someone")
    assert registry.data_root("~/images") == Path("/home/someone/images")


def test_nothing_here_imports_torch():
    modules = "arrays cifar cli fetch folders lock registry sets splits standin".split()
    code = f"import sys, {', '.join('cds_lib.data.' + m for m in modules)}; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_registry_needs_no_numpy():
    code = "import sys, cds_lib.data.registry, cds_lib.data.cli; print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
