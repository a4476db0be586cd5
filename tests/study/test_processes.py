"""Importing the library does not change a process; the study prepares its own processes with a function."""

import subprocess
import sys

import pytest

LOOK = """
import sys, types, warnings, ctypes
{first}
calls, load = [], ctypes.CDLL
recorder = types.SimpleNamespace(mallopt=lambda *a: calls.append(a))
ctypes.CDLL = lambda name, *rest, **more: recorder if name is None else load(name, *rest, **more)
if {kernel}:  # what tqdm asks, which timm imports
    import ipykernel.zmqshell
    sys.modules["ipywidgets"] = None
{program}
print(len(calls), "rfc3987_syntax" in sys.modules, [f for f in warnings.filters if "IProgress" in str(f)])
"""


TORCH = "import torch, torchvision  # what they do to a process is theirs"


def look(program, first="", kernel=False):
    code = LOOK.format(program=program, first=first, kernel=kernel)
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)


def test_importing_the_library_changes_nothing_about_the_process():
    """A notebook is not told to install widgets either."""
    program = "import cds_lib, cds_lib.study, cds_lib.augment.views, cds_lib.study.data.stream; cds_lib.export_backbone"
    program += "; from cds_lib import ContrastiveDeepSupervision; import timm"
    found = look(program, TORCH, kernel=True)
    assert found.stdout.strip() == "0 False []" and "IProgress" not in found.stderr
    if "IProgress" not in look("import tqdm.auto", kernel=True).stderr:
        pytest.skip("the packages that are installed ask for no widgets")


def test_a_process_of_the_study_keeps_freed_memory_and_skips_a_slow_import(monkeypatch):
    assert look("from cds_lib.study import processes; processes.begin()").stdout.strip() == "2 True []"
    monkeypatch.setenv("MPLBACKEND", "nonsense")  # the user's plot backend does not stop the study
    program = "from cds_lib.study.cli import main; main(['data', 'list']); import matplotlib"
    assert look(program).stdout.strip().endswith("\n2 True []")


USER_SCRIPT = """
import os
from cds_lib.study.processes import fork_server
if __name__ == "__main__":
    before = dict(os.environ)
    process = fork_server(["cds_lib.study.data.splits"]).Process(target=print, args=["from a process of the server"])
    process.start()
    process.join()
    assert os.environ == before
"""


def test_the_working_directory_is_no_place_for_modules_of_the_fork_server(tmp_path, monkeypatch):
    """A user's script or notebook starts the server in a folder that contains a random.py."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "random.py").write_text("print('not the one')")
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("from a process of the server\n", "")


def test_a_process_without_standard_streams_gets_some(python, tmp_path):
    program = """
import sys
from cds_lib.study import processes
processes.begin()
from cds_lib.study.engines.progress import Progress
Progress(1, 0).say("heard by nobody")
with open(sys.argv[1], "w") as file:
    print(file.fileno(), sys.stdin.read(), sys.stderr.isatty(), file=file)
"""
    python(program, tmp_path / "found", prefix=["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash"])
    number, *rest = (tmp_path / "found").read_text().split()
    assert int(number) > 2 and rest == ["False"]


def test_a_user_without_a_home_gets_one_before_jupyter_asks(python):
    program = """
import pwd
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
from cds_lib.study import processes
processes.begin()
from jupyter_core.paths import jupyter_data_dir
print(jupyter_data_dir())
"""
    assert python(program, HOME=None, XDG_DATA_HOME=None, JUPYTER_DATA_DIR=None).startswith("/")
    program = "import os; from cds_lib.study import processes; processes.begin(); print(os.environ['HOME'])"
    assert python(program, HOME="/mine") == "/mine"


def test_a_temporary_folder_with_a_long_name_does_not_keep_processes_from_starting(python, tmp_path):
    program = """
import os
from cds_lib.study.processes import fork_server
process = fork_server([]).Process(target=os.getpid)
process.start()
process.join()
print(process.exitcode)
"""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    assert python(program, TMPDIR=str(long)) == "0"
