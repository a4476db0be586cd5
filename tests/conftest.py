"""What all tests share."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cds_lib.study.engines import analysis_engine, local_engine
from cds_lib.study.processes import begin, fork_server
from cds_lib.study.report import notebook_files

quiet = [HealthCheck.function_scoped_fixture]
settings.register_profile("tests", derandomize=True, database=None, deadline=None, suppress_health_check=quiet)
settings.load_profile("tests")
begin()  # before nbformat is imported, which takes a second otherwise
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without it


@pytest.fixture(scope="session")
def server():
    """What a test forks has been imported already, whichever test comes first."""
    return fork_server([*local_engine.PRELOAD, *analysis_engine.PRELOAD, *notebook_files.PRELOAD])


@pytest.fixture(scope="session")
def python():
    """What a program prints in a process of its own that finds the library; a variable that is None is not there."""

    def run(program, *arguments, prefix=(), **variables):
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
        variables = {name: value for name, value in variables.items() if value is not None}
        command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the static site."""
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "site.py"))["main"](folder)
    return folder
