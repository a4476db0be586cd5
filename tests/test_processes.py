"""Importing the library changes nothing about a process; the study's own begin with a function."""

import subprocess
import sys

import cds_lib

LOOK = """
import sys, types, warnings, ctypes
import torch, torchvision  # what they do to a process is theirs
calls, load = [], ctypes.CDLL
recorder = types.SimpleNamespace(mallopt=lambda *a: calls.append(a))
ctypes.CDLL = lambda name, *rest, **more: recorder if name is None else load(name, *rest, **more)
if {kernel}:  # what tqdm asks, which timm imports
    import ipykernel.zmqshell
    sys.modules["ipywidgets"] = None
{program}
print(len(calls), "rfc3987_syntax" in sys.modules, [f for f in warnings.filters if "IProgress" in str(f)])
"""


def look(program, kernel=False):
    code = LOOK.format(program=program, kernel=kernel)
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)


def test_importing_the_library_changes_nothing_about_the_process():
    program = "import cds_lib, cds_lib.reporting, cds_lib.data.augment, cds_lib.data.stream; cds_lib.export_backbone"
    assert look(program).stdout.strip() == "0 False []"


def test_a_process_of_the_study_keeps_freed_memory_and_skips_a_slow_import():
    assert look("from cds_lib import processes; processes.begin()").stdout.strip() == "2 True []"
    assert look("from cds_lib.cli import main; main(['data', 'list'])").stdout.strip().endswith("\n2 True []")


def test_a_notebook_is_not_told_to_install_widgets():
    assert "IProgress" in look("import timm", kernel=True).stderr
    for first in (
        "from cds_lib import ContrastiveDeepSupervision",
        "import cds_lib.data.batches, cds_lib.methods.create",
    ):
        found = look(f"{first}; import timm", kernel=True)
        assert "IProgress" not in found.stderr and found.stdout.strip() == "0 False []"


def test_completion_finds_the_names_that_are_loaded_on_first_use():
    assert {"ContrastiveDeepSupervision", "export_backbone", "__version__"} <= set(dir(cds_lib))
