"""The house rules: packaging files agree, layers do not reach upwards, files stay small and portable."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "cds_lib"
MAX_LINES = 450
# The rooms of the study that train and show, each on those before it.
STUDY = [f"study.{name}" for name in "engines report session commands".split()]

DATA_SETS = "cifar10 cifar100 imagenet cub200 stanford_cars flowers102 stanford_dogs fgvc_aircraft coco".split()
# Reading results must start fast and work where torch does not.
TORCH_FREE = [
    "cds_lib",
    "cds_lib.errors",
    "cds_lib.study.data.registry",
    "cds_lib.study.commands.dry_run",
    *(
        f"cds_lib.study.{name}"
        for name in "spec store catalogue protocols tables analyses published statistics costs".split()
    ),
    "cds_lib.study.report.write",
]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, what they include too; without any, the library's own."""
    found = [Requirement(text) for text in project()["dependencies"]]
    for extra in extras:
        asked = [Requirement(text) for text in project()["optional-dependencies"][extra]]
        found += [requirement for requirement in asked if requirement.name != project()["name"]]
        found += [r for included in asked if included.name == project()["name"] for r in requirements(*included.extras)]
    return found


def locked() -> dict[str, set[str]]:
    """Package -> its locked versions (several where they differ by platform or Python)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.M):
        found.setdefault(name.lower(), set()).add(version)
    return found


def source_files() -> list[Path]:
    """What people read and write: everything but the environment, caches, data and results that are not tracked."""
    skipped = {
        ".venv",
        ".git",
        "data",
        "build",
        "__pycache__",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".ipynb_checkpoints",
    }
    files = [path for path in ROOT.rglob("*") if not skipped & {*path.relative_to(ROOT).parts[:1], path.parent.name}]
    return [p for p in files if p.is_file() and p.relative_to(ROOT).parts[:1] != ("results",)]


# -- packaging ---------------------------------------------------------------------------------------------------------


def test_every_requirement_has_one_plain_floor():
    assert requirements() and {*requirements("analysis")} < {*requirements("study")} < {*requirements("test")}
    for requirement in requirements("test"):
        assert [spec.operator for spec in requirement.specifier] == [">="], requirement
        assert not requirement.marker and not requirement.extras and not requirement.url, requirement


def test_every_locked_version_satisfies_its_floor():
    versions = locked()
    for requirement in requirements("test"):
        assert requirement.name in versions, f"{requirement.name} is not in requirements.lock: regenerate it"
        for version in versions[requirement.name]:
            assert requirement.specifier.contains(Version(version)), (requirement, version)


def test_lock_holds_the_constraints():
    pins = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert {pin.name for pin in pins} == {"torch", "torchvision", "pytest"}
    for pin in pins:
        assert all(pin.specifier.contains(Version(version)) for version in locked()[pin.name]), pin


def test_every_locked_package_has_a_hash_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    entries = [e for e in re.sub(r"^ *#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines() if e.strip()]
    assert len(entries) > 100
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_lock_says_how_to_make_it_again():
    header = (ROOT / "requirements.lock").read_text().splitlines()[1]
    for part in ("pyproject.toml", "--extra test", "--constraint constraints.txt", "--universal", "--generate-hashes"):
        assert part in header


def test_conda_environment_is_the_lock_and_the_projects_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, lists = environment["dependencies"]
    assert python.removeprefix("python=") in SpecifierSet(project()["requires-python"])
    assert (pip, lists) == ("pip", {"pip": ["-r requirements.lock"]})
    assert "defaults" not in environment["channels"]


@pytest.mark.parametrize("recipe", ["Dockerfile", "apptainer.def"])
def test_images_have_the_lock_and_record_the_commit(recipe):
    text = (ROOT / recipe).read_text()
    version = re.search(r"^VERSION_FILE = \"(.+)\"", (LIBRARY / "study/engines/provenance.py").read_text(), re.M)[1]
    assert "python:3.11-slim" in text and "--require-hashes -r" in text and "requirements.lock" in text
    assert re.search(rf"CODE_VERSION.* > \S+/{version}$", text, re.M)


def test_every_imported_package_is_required():
    """What is imported, at the top of a file or in a function, is asked for where it is needed, the study included."""
    names = {
        "sklearn": "scikit-learn",
        "PIL": "pillow",
        "yaml": "pyyaml",
        "IPython": "ipython",
        "bs4": "beautifulsoup4",
        "faster_coco_eval": "faster-coco-eval",
    }
    library = {Requirement(text).name for text in project()["dependencies"]}
    analysis, study = ({r.name for r in requirements(extra)} for extra in ("analysis", "study"))
    imported = set()
    for path in LIBRARY.rglob("*.py"):
        room = path.relative_to(LIBRARY).parts[0]
        allowed = study if room == "study" else analysis if room in ("analysis", "evaluation") else library
        for module in imported_modules(path):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top != "cds_lib":
                assert names.get(top, top) in library | allowed, f"{path.relative_to(ROOT)} imports {top}"
                imported |= {top} if room == "study" and names.get(top, top) not in library else set()
    assert imported == {*importlib.import_module("cds_lib.study").PACKAGES}


def test_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"] == "MIT"
    (run,) = {*re.findall(r"\b[0-9a-f]{12}\b", citation["message"])}  # how to cite one result
    assert (ROOT / "results/mini/runs" / run / "metrics.json").is_file()
    assert f"run {run} of {project()['name']} {project()['version']}" in citation["message"]
    paper = citation["preferred-citation"]
    assert paper["title"] == "Contrastive Deep Supervision" and paper["year"] == 2022
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{{{names}}}" in readme and f"{{{paper['doi']}}}" in readme
    assert {"type": "other", "value": "arXiv:2207.05306", "description": "arXiv preprint"} in paper["identifiers"]


def test_readme_names_the_two_commands_first():
    commands = re.findall(r"^\./\S+", (ROOT / "README.md").read_text(), re.M)
    assert commands[:2] == ["./run_all.sh", "./run_tests.sh"]


# -- layers ------------------------------------------------------------------------------------------------------------


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function; `from a import b` counts as a and as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reaches(path: Path, *forbidden: str) -> set[str]:
    return {m for m in imported_modules(path) if any(m == f or m.startswith(f + ".") for f in forbidden)}


def files_of(package: str) -> list[Path]:
    files = sorted((LIBRARY / package).rglob("*.py"))
    assert files, package
    return files


def test_losses_know_tensors_only():
    for path in files_of("losses"):
        tops = {m.split(".")[0] for m in imported_modules(path)} - {"torch", *sys.stdlib_module_names}
        assert tops <= {"cds_lib"}, (path, tops)
        own = {m for m in imported_modules(path) if m.startswith("cds_lib")}
        assert all(m.startswith(("cds_lib.losses", "cds_lib.errors", "cds_lib.lazy")) for m in own), (path, own)
        assert not reaches(path, "os", "io", "pathlib", "shutil"), path


def test_the_library_does_not_know_the_study():
    for path in LIBRARY.rglob("*.py"):
        if not path.is_relative_to(LIBRARY / "study") and path != LIBRARY / "__main__.py":
            assert not reaches(path, "cds_lib.study"), path


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("models", ["methods", "training", "evaluation"]),
        ("methods", ["training", "evaluation"]),
        ("augment", ["losses", "models", "methods", "training", "evaluation"]),
        ("evaluation", ["training"]),
        ("analysis", ["training", "methods"]),
        ("training", ["models"]),
        ("study/data", ["losses", "models", "methods", "training", "evaluation", "study.spec", *STUDY]),
        ("study/engines", STUDY[1:]),
        ("study/report", ["training", "study.engines", "study.commands"]),
        ("study/tables", ["training", *STUDY]),
    ],
)
def test_layers_do_not_reach_upwards(package, forbidden):
    for path in files_of(package):
        assert not reaches(path, *(f"cds_lib.{name}" for name in forbidden)), path


def test_methods_touch_no_files_and_no_devices():
    for path in files_of("methods"):
        assert not reaches(path, "os", "pathlib", "shutil", "json"), path
        calls = {
            n.func.attr
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
        }
        assert not calls & {"cuda", "cpu", "save", "load"}, path


def test_training_knows_no_data_set_and_no_table():
    for path in files_of("training"):
        constants = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not constants & set(DATA_SETS), path
        assert not [c for c in constants if isinstance(c, str) and c.startswith("table")], path


def test_reading_results_needs_no_torch():
    program = f"import sys, {', '.join(TORCH_FREE)}; print(*{{'torch', 'torchvision', 'timm'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_the_method_loads_itself_and_nothing_that_it_does_not_use():
    """Beyond torch and timm (which loads all of torchvision): no other method, detector, metric or table."""
    program = "import sys, timm, timm.optim; before = {*sys.modules}; import cds_lib; cds_lib.CDS, cds_lib.SupConLoss; "
    program += "print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert {name.partition(".")[0] for name in loaded} <= {"cds_lib", *sys.stdlib_module_names}, loaded
    own = [name for name in loaded if name.startswith("cds_lib")]
    assert "cds_lib.cds" in own and len(own) <= 16, own


@pytest.mark.parametrize("package", ["", "augment", "losses", "methods", "models"])
def test_names_that_are_loaded_on_first_use_are_where_the_stub_says(package):
    module = importlib.import_module(f"cds_lib.{package}".rstrip("."))
    assert module.__all__ and {*module.__all__} <= {*dir(module)}
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("cds_lib.methods.cds", "cds_lib.cds", "ContrastiveDeepSupervision"),
        ("cds_lib.errors", "cds_lib.study.errors", "RunError"),
    ],
)
def test_what_has_moved_is_found_at_its_old_place(old, new, name):
    with pytest.warns(DeprecationWarning, match=f"{old}.{name} is now {new}.{name}; the old name works until 2.0"):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)


# -- files -------------------------------------------------------------------------------------------------------------


def test_all_of_the_code_is_linted():
    """A pattern without a slash would leave out every folder of that name, as "data" did cds_lib/study/data."""
    done = subprocess.run([sys.executable, "-m", "ruff", "check", ".", "--show-files"], cwd=ROOT, capture_output=True)
    linted = {Path(line) for line in done.stdout.decode().splitlines()}
    assert linted >= {path for path in source_files() if path.suffix == ".py"}
    assert not any(path.is_relative_to(ROOT / folder) for path in linted for folder in ("results", "data"))


def test_files_stay_small():
    code = [p for p in source_files() if p.suffix in {".py", ".sh", ".toml"} or p.parent.name == ".ci"]
    assert len(code) > 20
    for path in code:
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length <= MAX_LINES, f"{path.relative_to(ROOT)} has {length} lines: split it"


def test_nothing_names_the_machine_it_was_written_on():
    # Built from pieces, so that this file does not find itself.
    machine = re.compile(
        "|".join("/" + name for name in ["work/", "root/", "home/[a-z]", "Users/[a-z]", "tmp/ipykernel"])
    )
    kinds = {
        "",
        ".py",
        ".sh",
        ".md",
        ".toml",
        ".yml",
        ".yaml",
        ".cff",
        ".lock",
        ".txt",
        ".ipynb",
        ".json",
        ".csv",
        ".html",
    }
    mini = ROOT / "results" / "mini"
    tracked_results = [
        p for p in mini.rglob("*") if p.is_file() and p.name != "log.txt" and p.relative_to(mini).parts[0] != "slurm"
    ]
    for path in [*source_files(), *tracked_results]:
        if path.suffix in kinds and not path.name.startswith(".lock"):
            match = machine.search(path.read_text(encoding="utf-8"))
            assert not match, f"{path.relative_to(ROOT)} contains {match.group()!r}"


@pytest.mark.xdist_group("house")
def test_tests_of_a_group_run_in_one_process(request):
    """pytest-xdist and pytest have to fit each other for it; where they do not, costly fixtures are made twice."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not run with --dist loadgroup, as run_tests.sh does")
    assert request.node.nodeid.endswith("@house")
