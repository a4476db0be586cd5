"""Locks where the file system has none."""

import errno
import fcntl

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.files import is_locked, locked


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no locks")

    path = tmp_path / ".lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match="cannot lock files .no locks.: choose a folder on another one"), locked(path):
        raise AssertionError("the lock was not held")
    with pytest.raises(UsageError, match="cannot lock files"):
        is_locked(path)
