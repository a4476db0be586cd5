"""The store: complete files or none, correct states, one writer, clear refusals."""

import errno
import fcntl
import multiprocessing
import os
import stat
from unittest.mock import Mock

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.errors import RunError
from cds_lib.study.files import is_locked, locked, write_json, write_text
from cds_lib.study.plan import settings
from cds_lib.study.store import Store

SPEC = settings.supervised("smoke", "cifar100", "resnet18", "cds", 0)


def test_a_run_is_finished_exactly_when_its_metrics_are_there(store):
    assert not store.is_done(SPEC.id) and store.status(SPEC.id) == {} and store.history(SPEC.id).empty
    write_json(store.run_dir(SPEC.id) / "spec.json", SPEC.to_dict())
    write_json(store.run_dir(SPEC.id) / "metrics.json", {"test_top1_last": 1.5})
    assert store.is_done(SPEC.id) and store.metrics(SPEC.id) == {"test_top1_last": 1.5}
    assert store.spec(SPEC.id) == SPEC and store.ids() == [SPEC.id]


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")

    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_json_refuses_numbers_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"test_top1_last": float("nan")})
    assert os.listdir(tmp_path) == []


def hold(root, ready, done):
    store = Store(root)
    with store.lock(), store.lock_run(SPEC.id):
        store.write_status(SPEC.id, state="running")
        ready.set()
        done.wait(20)


def test_one_writer_at_a_time_and_a_dead_one_holds_nothing(store, tmp_path):
    store.open_for_writing()
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(20) and is_locked(tmp_path / ".lock")
    with pytest.raises(RunError, match=f"being trained by process {other.pid}"), store.lock_run(SPEC.id):
        pass
    assert store.status(SPEC.id)["state"] == "running"
    other.kill()
    other.join()
    assert store.status(SPEC.id)["state"] == "interrupted"
    with store.lock(), store.lock_run(SPEC.id):
        pass


def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    with pytest.raises(UsageError, match="cannot lock files .no locks.: choose a folder on another one"), locked(path):
        raise AssertionError("the lock was not held")
    with pytest.raises(UsageError, match="cannot lock files"):
        is_locked(path)


def test_a_folder_that_no_notebook_can_name_a_newer_one_and_a_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is not valid UTF-8"):
        Store(tmp_path / os.fsdecode(b"caf\xe9")).open_for_writing()
    assert not os.listdir(tmp_path)
    write_json(tmp_path / "store.json", {"version": 99})
    with pytest.raises(UsageError, match="newer version"):
        Store(tmp_path).open_for_writing()
    with pytest.raises(UsageError, match="cannot be used"):
        Store(tmp_path / "store.json").open_for_writing()


@pytest.mark.parametrize("name", ["notebooks", "index.html"])
def test_a_folder_with_pages_of_others_is_no_results_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=f"is not a results folder and has {name}, which would be written over"):
        Store(tmp_path).open_for_writing()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UsageError, match="make it writable"):
        Store(tmp_path / "results").open_for_writing()
