"""Files have the permissions that their user's umask gives, so that a group can share a results folder."""

import os
from pathlib import Path

import pytest

import sweeps
from cds_lib.study import cli
from cds_lib.study.engines.execute import execute
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES


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
