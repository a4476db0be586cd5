"""The archive holds the last commit and lists each file's size and hash; the repository stays small to clone."""

import hashlib
import json
import runpy
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True, text=True).stdout


def test_the_archive_is_the_commit_with_the_hash_of_every_file(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "archive.py"))
    script["main"](tmp_path / "study.zip")
    with ZipFile(tmp_path / "study.zip") as archive:
        graph = {entity["@id"]: entity for entity in json.loads(archive.read(script["METADATA"]))["@graph"]}
        described = {part["@id"] for part in graph["./"]["hasPart"]}
        tracked = git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")[:-1]
        files = {name for name in archive.namelist() if not name.endswith("/")}
        assert described == {*tracked} == files - {script["METADATA"]}
        for name in described:
            content = archive.read(name)
            assert graph[name]["sha256"] == hashlib.sha256(content).hexdigest()
            assert graph[name]["contentSize"] == str(len(content))
        assert archive.read("results/mini/store.json") == git("show", "HEAD:results/mini/store.json").encode()
    assert graph["./"]["version"].endswith(git("rev-parse", "HEAD").strip())


def test_the_repository_stays_small():
    """A clone consists of history and files, today 30 and 33 MB. Larger content belongs elsewhere."""
    history = int(git("rev-list", "--objects", "--disk-usage", "HEAD"))
    files = [ROOT / name for name in git("ls-files", "-z").split("\0") if (ROOT / name).is_file()]
    sizes = {path: path.stat().st_size for path in files}
    assert history < 60 * MIB and sum(sizes.values()) < 60 * MIB
    assert max(sizes.values()) < 4 * MIB, max(sizes, key=sizes.get)
