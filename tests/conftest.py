"""What all tests share."""

import runpy
import signal
from pathlib import Path

import pytest

from cds_lib.study.engines import analysis_engine, local_engine
from cds_lib.study.processes import begin, fork_server
from cds_lib.study.report import notebook_files

begin()  # before nbformat is imported, which takes a second otherwise
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without it


@pytest.fixture(scope="session")
def server():
    """What a test forks has been imported already, whichever test comes first."""
    return fork_server([*local_engine.PRELOAD, *analysis_engine.PRELOAD, *notebook_files.PRELOAD])


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the static site."""
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "site.py"))["main"](folder)
    return folder
