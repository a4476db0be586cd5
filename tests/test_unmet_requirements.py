"""scripts/unmet_requirements.py, which decides whether an environment has what the project needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def unmet(tmp_path, dependencies, *extras):
    """What the script says in a repository that asks for these dependencies."""
    script = tmp_path / "scripts/unmet_requirements.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts/unmet_requirements.py", script)
    text = f"[project]\nname = 'a-name'\ndependencies = {dependencies!r}\n[project.optional-dependencies]\n"
    text += "part = ['nothing-like-it>=1']\nwhole = ['a-name[part]', 'nor-this>=2']\n"
    (tmp_path / "pyproject.toml").write_text(text)
    done = subprocess.run([sys.executable, script, *extras], capture_output=True, text=True)
    return done.returncode, done.stderr.strip()


def test_met_requirements(tmp_path):
    assert unmet(tmp_path, ["numpy>=1.0", "pytest>=8"]) == (0, "")


def test_missing_and_old_packages_are_listed(tmp_path):
    code, text = unmet(tmp_path, ["numpy>=999.1", "no-such-package>=1", "pytest>=8"])
    assert (code, text) == (1, "it lacks numpy>=999.1, no-such-package>=1")


def test_extras_are_asked_for_only_when_named(tmp_path):
    assert unmet(tmp_path, ["numpy>=1.0"], "part") == (1, "it lacks nothing-like-it>=1")


def test_an_extra_that_includes_another_asks_for_both(tmp_path):
    assert unmet(tmp_path, ["numpy>=1.0"], "whole") == (1, "it lacks nor-this>=2, nothing-like-it>=1")
