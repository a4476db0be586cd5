"""What tests of the study share."""

import pytest

from cds_lib.study.store import Store


@pytest.fixture(scope="session", autouse=True)
def _one_server(server):
    """The study finds it running."""


@pytest.fixture
def store(tmp_path):
    """An empty results folder."""
    return Store(tmp_path)
