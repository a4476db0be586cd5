"""Fixtures and settings that all tests share."""

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
begin()  # before nbformat is imported; otherwise it takes a second
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without this handler


@pytest.fixture(scope="session")
def server():
    """Start the fork server with all modules preloaded, independent of which test runs first."""
    return fork_server([*local_engine.PRELOAD, *analysis_engine.PRELOAD, *notebook_files.PRELOAD])


@pytest.fixture(scope="session")
def python():
    """Return a function that runs a program in a new process and returns its output; a variable of None is unset."""

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
    """Build the static site and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "site.py"))["main"](folder)
    return folder
