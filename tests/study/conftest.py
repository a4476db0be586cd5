"""What tests of the study share."""

import pytest

from cds_lib.study.engines import analysis_engine, local_engine
from cds_lib.study.processes import fork_server
from cds_lib.study.report import notebook_files


@pytest.fixture(scope="session", autouse=True)
def _one_server():
    """What a test forks has been imported already, whichever test comes first."""
    fork_server([*local_engine.PRELOAD, *analysis_engine.PRELOAD, *notebook_files.PRELOAD])
