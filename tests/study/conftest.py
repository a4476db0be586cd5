"""What tests of the study share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_server(server):
    """The study finds it running."""
