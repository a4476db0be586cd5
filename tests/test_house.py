"""House rules that no tool checks: packaging files agree, layers do not import upwards, files stay small."""

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

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "cds_lib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> list[Requirement]:
    """Return the library's requirements in pyproject.toml plus those of these extras and the extras they include."""
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        asked = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
        found += [requirement for requirement in asked if requirement.name != PROJECT["name"]]
        found += [r for included in asked if included.name == PROJECT["name"] for r in requirements(*included.extras)]
    return found


# -- packaging ---------------------------------------------------------------------------------------------------------


def test_the_lock_satisfies_every_floor_and_constraint():
    locked: dict[str, set[str]] = {}  # several versions if they depend on platform or Python
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.M):
        locked.setdefault(name.lower(), set()).add(version)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for requirement in [*requirements("test"), *(Requirement(line) for line in lines if not line.startswith("#"))]:
        assert requirement.name in locked, f"{requirement.name} is not in requirements.lock: regenerate it"
        assert all(map(requirement.specifier.contains, locked[requirement.name])), requirement
    for requirement in requirements("test"):  # scripts/unmet_requirements.py can read only this form
        assert re.fullmatch(r"[\w-]+>=[\d.]+", str(requirement)), requirement


def test_conda_environment_is_the_lock_and_the_projects_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, lists = environment["dependencies"]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert (pip, lists) == ("pip", {"pip": ["-r requirements.lock"]}) and "defaults" not in environment["channels"]


@pytest.mark.parametrize("recipe", ["Dockerfile", "apptainer.def"])
def test_images_record_the_commit(recipe):
    version = re.search(r"^VERSION_FILE = \"(.+)\"", (LIBRARY / "study/engines/provenance.py").read_text(), re.M)[1]
    assert re.search(rf"CODE_VERSION.* > \S+/{version}$", (ROOT / recipe).read_text(), re.M)


def test_every_imported_package_is_required():
    """Each package imported in a file or function is required by its part of the library, including the study."""
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "IPython": "ipython"}
    names |= {"bs4": "beautifulsoup4", "faster_coco_eval": "faster-coco-eval", "jupyter_client": "jupyter-client"}
    library, analysis, study = ({r.name for r in requirements(*extra)} for extra in ((), ("analysis",), ("study",)))
    of_the_study = set()
    for path in LIBRARY.rglob("*.py"):
        room = path.relative_to(LIBRARY).parts[0]
        allowed = {"study": study, "analysis": analysis, "evaluation": analysis}.get(room, library)
        for top in {module.split(".")[0] for module in imported(path)} - {"cds_lib", *sys.stdlib_module_names}:
            assert names.get(top, top) in allowed, f"{path.relative_to(ROOT)} imports {top}"
            of_the_study |= {top} if room == "study" and names.get(top, top) not in library else set()
    assert of_the_study == {*importlib.import_module("cds_lib.study").PACKAGES}


def test_citation_is_of_this_version_and_of_a_run_that_is_there():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    (run,) = {*re.findall(r"\b[0-9a-f]{12}\b", citation["message"])}  # how to cite one result
    assert (ROOT / "results/mini/runs" / run / "metrics.json").is_file()
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text(encoding="utf-8")
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert f"{{{names}}}" in readme and f"{{{paper['doi']}}}" in readme


# -- layers ------------------------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """Return all modules that a file imports, at its top or in a function; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


FILES = ["os", "io", "pathlib", "shutil", "json"]  # losses know only tensors; methods know no files
STUDY = [f"cds_lib.study.{name}" for name in "engines report commands session".split()]  # lower layers first


def rooms(names: str) -> list[str]:
    return [f"cds_lib.{name}" for name in names.split()]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("losses", [*FILES, *rooms("study augment models methods training evaluation analysis")]),
        ("models", rooms("study methods training evaluation")),
        ("methods", [*FILES, *rooms("study training evaluation")]),
        ("augment", rooms("study losses models methods training evaluation")),
        ("evaluation", rooms("study training")),
        ("analysis", rooms("study training methods")),
        ("training", rooms("study models")),
        ("study/plan", [*STUDY, *rooms("training study.tables study.data study.store")]),
        ("study/data", [*STUDY, *rooms("losses models methods training evaluation study.plan")]),
        ("study/engines", STUDY[1:]),
        ("study/report", [*rooms("training study.engines"), *STUDY[2:]]),
        ("study/tables", [*STUDY, *rooms("training")]),
        ("study/commands", STUDY[3:]),
    ],
)
def test_layers_do_not_reach_upwards(package, forbidden):
    for path in (LIBRARY / package).rglob("*.py"):
        reached = {m for m in imported(path) if any(m == f or m.startswith(f + ".") for f in forbidden)}
        assert not reached, (path, reached)


def test_reading_results_needs_no_torch(python):
    """Reading must start fast and work on machines where torch does not work."""
    names = "commands.dry_run analyses session cli engines.runner report.write".split()
    data = "cifar cli coco fetch folders image_files images layouts registry sets splits standin"
    names += [f"data.{name}" for name in data.split()]
    program = f"import sys, cds_lib, {', '.join(f'cds_lib.study.{name}' for name in names)}; "
    program += "print(*{'torch', 'torchvision', 'timm'} & {*sys.modules})"
    assert python(program) == ""


def test_the_method_loads_itself_and_nothing_that_it_does_not_use(python):
    """Besides torch and timm (which loads all of torchvision), it loads no other method, detector, metric or table."""
    program = "import sys, timm, timm.optim; before = {*sys.modules}; import cds_lib; cds_lib.CDS, cds_lib.SupConLoss; "
    program += "print(*sorted({*sys.modules} - before))"
    loaded = python(program).split()
    assert {name.partition(".")[0] for name in loaded} <= {"cds_lib", *sys.stdlib_module_names}, loaded
    own = [name for name in loaded if name.startswith("cds_lib")]
    assert "cds_lib.cds" in own and len(own) <= 16, own


@pytest.mark.parametrize("package", ["", "augment", "losses", "methods", "models", "study"])
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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_nothing_names_the_machine_it_was_written_on():
    places = "/" + "(work/|root/|home/[a-z]|Users/[a-z]|tmp/ipykernel)"  # in two pieces, not to match itself
    command = ["git", "-C", ROOT, "grep", "-nIE", places, "--", ":!tests/study/data"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
