"""Run the scripts in a repository whose path has spaces, with stand-ins for python, uv and pip on the PATH."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["run_all.sh", "run_tests.sh", ".ci/run", ".ci/floors", "scripts/environment.sh"]
SCRIPTS += ["scripts/wheelhouse.sh", ".binder/postBuild"]
# The only tools that the scripts may use besides bash, git (in .ci/run) and an interpreter.
TOOLS = "bash cat cmp dirname env find head ln mkdir mv readlink rm sleep tail".split()
STAND_IN_TOOLS = ["chmod"]

# A stand-in for the interpreter: it logs each call and imitates what the scripts see of a real one. The file `unmet`
# beside an environment's bin/ lists what the environment lacks. TEST_PIP sets how an install ends.
PYTHON = r"""#!/usr/bin/env bash
printf '%s\n' "${0##*/} $*" >>"$TEST_LOG"
case "$*" in
    *version_info*) printf '%s\n' "$0" ;;
    *purelib*) mkdir -p "${0%/bin/*}/site" && printf '%s\n' "${0%/bin/*}/site" ;;
    *unmet_requirements.py*)
        if [ -e "${0%/bin/*}/unmet" ]; then echo "it lacks $(cat "${0%/bin/*}/unmet")" >&2; exit 1; fi ;;
    "-m venv "*)
        mkdir -p "$3/bin" && cat "$0" >"$3/bin/python" && chmod +x "$3/bin/python" && echo x >"$3/pyvenv.cfg" ;;
    *"import torch, torchvision"*)
        if [ -e "${0%/bin/*}/broken" ]; then echo "OSError: libtorch.so: no such file" && exit 1; fi ;;
    "-m pip --python= install "*)
        echo "a lot of noise" && echo "pip sees $PIP_INDEX_URL$PIP_DRY_RUN$PYTHONPATH" >>"$TEST_LOG"
        rm -f "${0%/bin/*}/unmet"
        case ${TEST_PIP:-} in
            elsewhere) echo "torch>=2.6" >"${0%/bin/*}/unmet" ;;
            broken) echo x >"${0%/bin/*}/broken" ;;
            fail) echo "ERROR: no space left" && exit 1 ;;
            killed) kill -9 "$PPID" ;;
            slow) sleep 1 ;;
        esac ;;
    "-m cds_lib "*|"-m pytest "*)
        echo "PYTHON=$0" && echo "PYTHONPATH=$PYTHONPATH" && echo "CWD=$PWD" && echo "HOME=${HOME-unset}" &&
            echo "OMP=${OMP_NUM_THREADS-unset}" && printf 'ARG=%s\n' "$@" &&
            printf '%s\n' "safe path ${PYTHONSAFEPATH-unset}, home ${PYTHONHOME-unset}" >>"$TEST_LOG"
        exit "${TEST_EXIT:-0}" ;;
esac
"""
UV = r"""#!/usr/bin/env bash
printf '%s\n' "uv $*" >>"$TEST_LOG"
if [ "$1" = venv ]; then
    for place in "$@"; do :; done
    mkdir -p "$place/bin" && cat "$TEST_PYTHON" >"$place/bin/python" && chmod +x "$place/bin/python"
    echo x >"$place/pyvenv.cfg"
fi
"""
FAILING = "#!/usr/bin/env bash\nexit 127\n"  # like a version manager's stub for a missing version


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class House:
    """A repository, a PATH and a home directory in which the scripts run."""

    def __init__(self, folder: Path, *, flock: bool = True):
        self.folder, self.repo, self.path = folder, folder / "my clone", folder / "path"
        self.log, self.home = folder / "calls.log", folder / "home"
        for name in [*SCRIPTS, "scripts/unmet_requirements.py", "pyproject.toml"]:
            (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.repo / name)
        (self.repo / "requirements.lock").write_text("torch==1 --hash=sha256:00\n")
        self.path.mkdir()
        self.home.mkdir()
        for tool in TOOLS + STAND_IN_TOOLS + ["flock"] * flock:
            found = shutil.which(tool)
            if not found:
                pytest.skip(f"this machine has no {tool}")
            (self.path / tool).symlink_to(found)
        self.python = executable(self.path / "python3.11", PYTHON)
        places = {"PATH": self.path, "HOME": self.home, "TEST_LOG": self.log, "TEST_PYTHON": self.python}
        self.env = {name: str(place) for name, place in places.items()}

    @property
    def venv(self) -> Path:
        return self.repo / ".venv"

    def environment(self, name: str, unmet: str = "") -> Path:
        """Make an environment that the scripts did not create."""
        executable(self.folder / name / "bin/python", PYTHON)
        if unmet:
            (self.folder / name / "unmet").write_text(unmet)
        return self.folder / name

    def start(self, *arguments: str, script="run_all.sh", cwd: Path | None = None, **env: object) -> subprocess.Popen:
        variables = self.env | {name: str(value) for name, value in env.items()}
        streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([self.repo / script, *arguments], env=variables, cwd=cwd or self.folder, **streams)

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def calls(self) -> list[str]:
        """Return the calls of the stand-ins since the last time, and clear the log."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.write_text("")
        return text.splitlines()

    def installs(self) -> int:
        return sum(" pip --python= install " in call for call in self.calls())
