"""Files have the permissions that their user's umask gives, so that a group can share a results folder."""

import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import sweeps
from cds_lib.errors import UsageError
from cds_lib.files import replacing
from cds_lib.study import cli
from cds_lib.study.engines.execute import execute
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

GROUP = 64001
USERS = (64002, 64003)


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_the_umask_decides(mask, tmp_path, monkeypatch, one_comparison):
    monkeypatch.setitem(TABLES, "faults", sweeps.TABLE)
    results = tmp_path / "results"
    before = os.umask(mask)
    try:
        store = Store(results)
        store.open_for_writing()
        execute(sweeps.RUNS[2], store, Path("none"))
        with store.lock():
            pass
        assert cli.main(["report", "--only", "faults", "--results", str(results)]) == 0
    finally:
        os.umask(before)
    found = [results, *results.rglob("*")]
    assert {"model.pt", "metrics.json", ".lock", "store.json", "index.html"} <= {path.name for path in found}
    for path in found:
        assert path.stat().st_mode & 0o7777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


@pytest.fixture
def shared():
    """A folder that belongs to a group, and to its members' new files too."""
    if os.geteuid() != 0:
        pytest.skip("only root may become other users")
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


def become(user, action, *arguments):
    """Do something in a process of this user, of the group; returns its exit code."""

    def work():
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(user)
        sys.exit(action(*arguments))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def write(root, number):
    os.umask(0o002)
    store = Store(root)
    store.open_for_writing()
    spec = sweeps.RUNS[0]
    with store.lock(), store.lock_run(spec.id):
        store.write_status(spec.id, state="running", device=str(number))
        with replacing(store.checkpoint(spec.id)) as file:
            file.write(b"weights")
    return 0


def test_two_users_of_a_group_take_turns(shared):
    root = shared / "results"
    for number, user in enumerate((*USERS, USERS[0])):
        assert become(user, write, root, number) == 0
        assert Store(root).status(sweeps.RUNS[0].id)["device"] == str(number)
        for path in (root, *root.rglob("*")):
            assert path.stat().st_gid == GROUP


def refused(root):
    try:
        Store(root).open_for_writing()
    except UsageError as error:
        return 2 if "make it writable or choose another --results" in str(error) else 3
    return 0


def test_a_folder_of_somebody_else_is_refused_and_can_be_looked_at(shared):
    os.chown(shared, 0, 0)
    shared.chmod(0o755)
    sweeps.pretend(Store(shared), sweeps.RUNS[0], 0)
    assert become(USERS[0], refused, shared) == 2
    assert become(USERS[0], cli.main, ["status", "--only", "00_start_here", "--results", str(shared)]) == 0
    assert sorted(path.name for path in shared.iterdir()) == ["runs"]
