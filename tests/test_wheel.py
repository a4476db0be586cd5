"""The wheel, installed outside the checkout with only its requirements, runs what users try first."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.xdist_group("wheel")  # the fixture is costly: once, in one process
ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
# examples -> packages that they need besides the library
NEEDED = {("plain_loop", "timm_style"): [], ("lightning_module",): ["lightning"]}
NEEDED |= {("huggingface_trainer",): ["transformers", "accelerate"]}
# Modules of the library that need an extra.
ANALYSIS = {"cds_lib.analysis.embedding", "cds_lib.evaluation.calibration", "cds_lib.evaluation.detection"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy with pip's build backend and the setuptools of this environment."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "cds_lib", source / "cds_lib", ignore=shutil.ignore_patterns("__pycache__"))
    program = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)
    (found,) = out.glob("cds_study-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Return environment(package, ...) -> a Python with the wheel, its dependencies and these packages."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*packages: str) -> Path:
        if packages not in made:
            folder = tmp_path_factory.mktemp("environment")
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
            (site,) = folder.glob("lib/python*/site-packages")
            with zipfile.ZipFile(wheel) as file:
                file.extractall(site)
                (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
                asked = re.findall(r"^Requires-Dist: (.+)$", file.read(metadata).decode(), re.M)
            for entry in installed_entries([*asked, *packages]):
                if not (site / entry.name).exists():
                    (site / entry.name).symlink_to(entry)
            made[packages] = folder / "bin" / "python"
        return made[packages]

    return make


def installed_entries(requirements: list[str]) -> set[Path]:
    """Return the site-packages entries of all direct and indirect requirements, without unrequested extras."""
    entries, seen = set(), set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), asked
            if key in seen:
                continue
            seen.add(key)
            found = distribution(requirement.name)
            waiting += [(Requirement(text), asked) for text in found.requires or []]
            tops = {path.parts[0] for path in found.files or []} - {"..", "__pycache__"}
            entries |= {Path(str(found.locate_file(top))) for top in tops}
    return entries


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run([python, *arguments], cwd=folder, env=env, capture_output=True, text=True)


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel):
    package = ROOT / "cds_lib"
    files = {p.relative_to(ROOT).as_posix() for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(wheel) as file:
        assert {name for name in file.namelist() if ".dist-info/" not in name} == files


def test_the_library_needs_its_dependencies_alone(environment, tmp_path):
    program = """
import importlib, pkgutil, cds_lib
for module in pkgutil.walk_packages(cds_lib.__path__, "cds_lib."):
    if module.name.startswith("cds_lib.study.") or module.name == "cds_lib.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error, sep="|")
"""
    done = run(environment(), tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    missing = dict(line.split("|") for line in done.stdout.splitlines())
    assert missing.keys() == {*ANALYSIS, "cds_lib.study"}
    for module, sentence in missing.items():
        extra = "study" if module == "cds_lib.study" else "analysis"
        assert re.fullmatch(rf"\w+ is not installed: pip install 'cds-study\[{extra}\]' .*", sentence)


def test_the_command_says_which_extra_is_missing(environment, tmp_path):
    done = run(environment(), tmp_path, "-m", "cds_lib", "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'cds-study[study]'" in done.stderr and len(done.stderr.splitlines()) == 1


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"toy", *itertools.chain(*NEEDED)}


@pytest.mark.slow
@pytest.mark.parametrize("names", NEEDED, ids="-".join)
def test_examples_train(names, environment, tmp_path):
    """The trained networks classify unseen images better than chance, which is a quarter."""
    try:
        python = environment(*NEEDED[names])
    except PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    lines = [f"import {name}; print('\\naccuracy', {name}.main(epochs=3))" for name in names]
    done = run(python, tmp_path, "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^accuracy (.+)$", done.stdout, re.M)
    assert len(found) == len(names) and all(float(accuracy) > 0.5 for accuracy in found), done.stdout
