"""scripts/unmet_requirements.py, which decides whether an environment has what the project needs."""

import shutil
import subprocess
import sys

import pytest

from cds_lib.study.checkout import CHECKOUT as ROOT


@pytest.mark.parametrize(
    ("dependencies", "extras", "lacks"),
    [
        (["numpy>=1.0", "pytest>=8"], [], ""),
        (["numpy>=999.1", "no-such-package>=1", "pytest>=8"], [], "it lacks numpy>=999.1, no-such-package>=1"),
        (["numpy>=1.0"], ["part"], "it lacks nothing-like-it>=1"),
        (["numpy>=1.0"], ["whole"], "it lacks nor-this>=2, nothing-like-it>=1"),  # which includes the part
    ],
)
def test_what_a_repository_with_these_dependencies_lacks(tmp_path, dependencies, extras, lacks):
    script = tmp_path / "scripts/unmet_requirements.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts/unmet_requirements.py", script)
    text = f"[project]\nname = 'a-name'\ndependencies = {dependencies!r}\n[project.optional-dependencies]\n"
    text += "part = ['nothing-like-it>=1']\nwhole = ['a-name[part]', 'nor-this>=2']\n"
    (tmp_path / "pyproject.toml").write_text(text)
    done = subprocess.run([sys.executable, script, *extras], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (1 if lacks else 0, lacks)
