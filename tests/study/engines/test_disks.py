"""Results folders on a full, read-only or shared disk; full and read-only disks are small tmpfs mounts of root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps
from cds_lib.study import cli
from cds_lib.study.engines.execute import execute
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES


class Disk:
    def __init__(self, root):
        self.root = root

    def mount(self, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.root)]
        return subprocess.run(command, capture_output=True, text=True)

    def remount(self, *options):
        assert self.mount("remount", *options).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """Mount a separate file system of 1 MiB during a test."""
    if os.geteuid() != 0 or shutil.which("mount") is None or not sys.platform.startswith("linux"):
        pytest.skip("only root may mount a small file system, on Linux")
    disk = Disk(tmp_path / "disk")
    disk.root.mkdir()
    if (mounted := disk.mount("size=1m")).returncode:
        pytest.skip(f"no file system can be mounted here ({mounted.stderr.strip()})")
    yield disk
    subprocess.run(["umount", str(disk.root)], check=True)


@pytest.fixture
def run_all(monkeypatch, capfd, one_comparison):
    monkeypatch.setitem(TABLES, "faults", sweeps.TABLE)

    def run(results, *arguments, command="run-all"):
        code = cli.main([command, "--only", "faults", "--results", str(results), *arguments])
        output = "".join(capfd.readouterr())
        assert "Traceback" not in output
        return code, output

    return run


@pytest.mark.parametrize("size", ["1m", "20k"])  # room for some weights, or for a few small files
def test_a_full_disk_is_said_and_everything_goes_on_when_there_is_space(size, disk, run_all):
    disk.remount(f"size={size}")
    results = disk.root / "results"
    code, output = run_all(results, "--jobs", "1")
    assert code == 1 and "No space left on device" in output and "free space" in output
    assert not list(disk.root.rglob(".*.part"))
    for path in disk.root.rglob("*.json"):
        json.loads(path.read_text())
    assert not any(Store(results).is_done(spec.id) and not Store(results).metrics(spec.id) for spec in sweeps.RUNS)

    disk.remount("size=64m")
    code, output = run_all(results, "--jobs", "1", "--retry-failed")
    assert code == 0, output
    assert all(Store(results).is_done(spec.id) for spec in sweeps.RUNS)


def test_a_read_only_folder_can_be_looked_at_and_is_not_written(disk, run_all):
    results = sweeps.pretend_all(disk.root / "results").root
    assert run_all(results)[0] == 0
    disk.remount("ro")
    for command in ("run-all", "report"):
        code, output = run_all(results, command=command)
        assert code == 2
        assert output.splitlines()[-1].startswith(f"error: The results folder {results} cannot be used")
        assert "make it writable or choose another --results" in output
    code, output = run_all(results, command="status")
    assert code == 0 and "faults: 4 runs: 4 done, 0 to train" in output


# -- permissions -------------------------------------------------------------------------------------------------------


def test_the_umask_decides_who_shares_a_results_folder(tmp_path, run_all):
    results, mask = tmp_path / "results", 0o007
    before = os.umask(mask)
    try:
        store = Store(results)
        store.open_for_writing()
        execute(sweeps.RUNS[2], store, Path("none"))
        with store.lock():
            pass
        assert run_all(results, command="report")[0] == 0
    finally:
        os.umask(before)
    found = [results, *results.rglob("*")]
    assert {"model.pt", "metrics.json", ".lock", "store.json", "index.html"} <= {path.name for path in found}
    for path in found:
        assert path.stat().st_mode & 0o7777 == (0o777 if path.is_dir() else 0o666) & ~mask, path
