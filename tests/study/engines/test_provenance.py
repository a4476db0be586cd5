"""The code version of a number, for real checkouts of any owner and with any git settings."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import cds_lib
from cds_lib.study.engines import provenance

RELEASE = f"release {cds_lib.__version__}"
NOBODY = 65534


@pytest.fixture
def version(monkeypatch):
    """Return the function under test, as a function of a folder."""

    def of(folder: Path) -> str:
        monkeypatch.setattr(provenance, "CHECKOUT", folder)
        return provenance.code_version.__wrapped__()

    return of


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """Return a repository with one library file, and its commit."""
    if not shutil.which("git"):
        pytest.skip("this machine has no git")
    folder = tmp_path / "a checkout"
    (folder / "cds_lib").mkdir(parents=True)
    (folder / "cds_lib" / "code.py").write_text("x = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    return folder, git(folder, "rev-parse", "--short=12", "HEAD")


def test_a_commit_and_whether_the_library_differs_from_it(checkout, version):
    folder, commit = checkout
    (folder / "notes.txt").write_text("no part of the library")
    assert version(folder) == commit
    (folder / "cds_lib" / "code.py").write_text("x = 2\n")
    assert version(folder) == f"{commit}+dirty"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_of_another_user(checkout, version):
    folder, commit = checkout
    (folder / "cds_lib" / "code.py").write_text("x = 2\n")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    with pytest.raises(subprocess.CalledProcessError):
        git(folder, "status")
    assert version(folder) == f"{commit}+dirty"


def test_variables_of_a_hook_name_no_other_repository(checkout, version, tmp_path, monkeypatch):
    folder, commit = checkout
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert version(folder) == commit


def test_new_files_count_where_the_user_has_git_hide_them(checkout, version):
    folder, commit = checkout
    git(folder, "config", "status.showUntrackedFiles", "no")
    (folder / "cds_lib" / "new.py").write_text("")
    assert version(folder) == f"{commit}+dirty"


def test_a_release_is_what_has_no_git_folder_also_inside_a_repository(checkout, version):
    folder, _ = checkout
    (folder / "site-packages").mkdir()
    assert version(folder / "site-packages") == RELEASE


def test_a_checkout_without_git_is_no_release(checkout, version, monkeypatch):
    folder, _ = checkout
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(folder))
        assert version(folder) == "unknown"
    shutil.rmtree(folder / ".git")
    (folder / ".git").write_text("gitdir: nowhere\n")
    assert version(folder) == "unknown"


def test_what_is_forced_on_the_kernels_is_recorded(python):
    code = "from cds_lib.study.engines.provenance import instructions; print(instructions())"
    forced = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
    found = ast.literal_eval(python(code, **forced))
    assert found["pytorch"] == "DEFAULT" and found["onednn"] == "AVX2" and forced.items() <= found.items()
