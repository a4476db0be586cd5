"""Fixtures that the tests of the study share."""

import pytest

from cds_lib.study.store import Store


@pytest.fixture(scope="session", autouse=True)
def _one_server(server):
    """Start the fork server before the study needs it."""


@pytest.fixture
def store(tmp_path):
    """Return an empty results folder."""
    return Store(tmp_path)
