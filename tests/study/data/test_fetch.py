"""Download, checksums, locks and unpacking: the official files are complete, or nothing looks as if they were."""

import dataclasses
import fcntl
import io
import socket
import subprocess
import sys
import tarfile
import zipfile

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data.fetch import fetch
from cds_lib.study.data.registry import single_writer

FILE = "cifar-100-python.tar.gz"
PATH = "/" + FILE


@pytest.fixture
def entry(mirror, tiny100, tools):
    """Return the tiny CIFAR-100 with the local mirror as its only url."""
    mirror.files[PATH] = tiny100.archive
    return tools.with_archives(tiny100.entry, {FILE: tiny100.archive}, mirror.url(PATH))


def part_of(root):
    return root / f"{FILE}.part"


def names(root):
    return sorted(p.name for p in root.iterdir())


def test_fetch_unpacks_the_official_files_once(mirror, entry, tiny100, tmp_path, capsys):
    root = tmp_path / "new" / "data"
    folder = fetch(entry, root)
    assert folder == root / "cifar-100-python"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == tiny100.files
    assert names(root) == [".cifar100.lock", "cifar-100-python", FILE]
    said = capsys.readouterr().err
    assert all(word in said for word in (mirror.url(PATH), "100%", entry.terms))
    assert fetch(entry, root, offline=True) == folder
    assert len(mirror.asked) == 1 and "already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("begun", "ranges", "asked"),
    [
        (lambda whole: whole[:1000], True, ["bytes=1000-"]),
        (lambda whole: whole, True, ["bytes=all-"]),
        (lambda whole: whole + b"more", True, ["bytes=more-", None]),
        (lambda whole: b"x" * 1000, True, ["bytes=1000-", None]),  # found by the checksum
        (lambda whole: b"x" * 1000, False, ["bytes=1000-"]),  # this server starts again from the beginning
    ],
    ids=["half", "whole", "too long", "other", "no ranges"],
)
def test_a_download_goes_on_where_a_part_file_ends(mirror, entry, tiny100, tmp_path, begun, ranges, asked):
    mirror.ranges = ranges
    part_of(tmp_path).write_bytes(begun(tiny100.archive))
    fetch(entry, tmp_path)
    whole = len(tiny100.archive)
    lengths = {"bytes=all-": f"bytes={whole}-", "bytes=more-": f"bytes={whole + 4}-"}
    assert mirror.asked == [(PATH, lengths.get(header, header)) for header in asked]
    assert (tmp_path / FILE).read_bytes() == tiny100.archive and not part_of(tmp_path).exists()


def test_broken_connections_are_continued(mirror, entry, tiny100, tmp_path):
    mirror.cut = len(tiny100.archive) // 4 + 1
    fetch(entry, tmp_path)
    assert mirror.asked == [(PATH, None)] + [(PATH, f"bytes={k * mirror.cut}-") for k in (1, 2, 3)]


def test_truncating_server_without_ranges_gives_up_and_keeps_the_part(mirror, entry, tmp_path):
    mirror.ranges, mirror.cut = False, 5000
    with pytest.raises(UsageError, match="could not be fetched .*closed the connection early.*try again to resume"):
        fetch(entry, tmp_path)
    assert names(tmp_path) == [".cifar100.lock", part_of(tmp_path).name] and part_of(tmp_path).stat().st_size == 5000
    mirror.ranges, mirror.cut = True, None
    fetch(entry, tmp_path)
    assert mirror.asked[-1] == (PATH, "bytes=5000-")


ODD = [("Content-Length", length) for length in ("abc", "-5")]
ODD += [("Location", place) for place in ("http://[::1", "file:///etc/passwd", "/odd")]


@pytest.mark.parametrize("url", ["dead", "nonsense", "http://[::1", "/nowhere", "/wrong", *ODD], ids=ascii)
def test_a_server_that_is_dead_or_answers_nonsense_is_one_sentence(url, mirror, tiny100, tools, tmp_path):
    mirror.files["/wrong"] = b"\x80garbage" * 100
    if url == "dead":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    elif url in ODD:
        mirror.odd["/odd"] = (200 if url[0] == "Content-Length" else 302, *url)
        url = mirror.url("/odd")
    elif url.startswith("/"):
        url = mirror.url(url)
    entry = tools.with_archives(tiny100.entry, {FILE: tiny100.archive}, url)
    with pytest.raises(UsageError) as caught:
        fetch(entry, tmp_path)
    said = str(caught.value)
    assert f"{FILE} could not be fetched ({url}: " in said and entry.manual in said and "\n" not in said
    assert url != mirror.url("/wrong") or "checksum of what it sent is not the published one" in said
    assert names(tmp_path) == [".cifar100.lock"]
    mirror.files["/good"] = tiny100.archive
    assert fetch(tools.with_archives(tiny100.entry, {FILE: tiny100.archive}, mirror.url("/good")), tmp_path).is_dir()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_uses_only_an_archive_put_there_by_hand(mirror, entry, tiny100, tmp_path, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("CDS_OFFLINE", "1")
    options = {"offline": how == "argument"}
    with pytest.raises(UsageError, match="offline"):
        fetch(entry, tmp_path, **options)
    (tmp_path / FILE).write_bytes(b"not it")
    with pytest.raises(UsageError, match="is not the published .* delete that file"):
        fetch(entry, tmp_path, **options)
    assert names(tmp_path) == [".cifar100.lock", FILE]
    (tmp_path / FILE).write_bytes(tiny100.archive)
    assert fetch(entry, tmp_path, **options).is_dir() and mirror.asked == []


def test_another_folder_in_the_way_is_left_alone(mirror, entry, tiny100, tmp_path):
    folder = tiny100.write(tmp_path)
    (folder / "test").write_bytes(b"repacked")
    (folder / "meta").unlink()
    with pytest.raises(UsageError, match="is in the way: .* not as published are test, meta; move that folder away"):
        fetch(entry, tmp_path)
    with pytest.raises(UsageError, match="is in the way"):
        fetch(dataclasses.replace(entry, marker="meta"), tmp_path)
    assert (folder / "test").read_bytes() == b"repacked" and mirror.asked == []


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"out")
    return stream.getvalue()


INSIDE = "cifar-100-python/train"
HOSTILE = {
    "up": (".tar.gz", lambda tar: tar({"../escaped": b"out"})),
    "up within": (".tar.gz", lambda tar: tar({"cifar-100-python/../../escaped": b"out"})),
    "absolute": (".tar.gz", lambda tar: tar({"/tmp/escaped": b"out"})),
    "link": (".tar.gz", lambda tar: tar({INSIDE: b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": (".tar.gz", lambda tar: tar({INSIDE: b""}, type=tarfile.LNKTYPE, linkname="../escaped")),
    "device": (".tar.gz", lambda tar: tar({INSIDE: b""}, type=tarfile.FIFOTYPE)),
    "zip up": (".zip", lambda tar: zipped("../escaped")),
    "none": (".tar.gz", lambda tar: b"no archive at all"),
    "damaged": (".tar.gz", lambda tar: b"\x1f\x8b\x08broken"),
    "cut": (".tar.gz", lambda tar: tar({INSIDE: b"x" * 9999})[:-40]),
    "zip cut": (".zip", lambda tar: zipped(INSIDE)[:-10]),
    "other": (".tar.gz", lambda tar: tar({"other/train": b"x"})),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_archive_writes_outside_of_its_folder_or_leaves_a_part(kind, tiny100, tools, tmp_path):
    suffix, make = HOSTILE[kind]
    root, data = tmp_path / "root", make(tools.tar)
    root.mkdir()
    (root / f"x{suffix}").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be unpacked .*; delete and fetch again"):
        fetch(tools.with_archives(tiny100.entry, {f"x{suffix}": data}), root)
    assert names(tmp_path) == ["root"] and names(root) == [".cifar100.lock", f"x{suffix}"]


def test_permissions_are_those_of_new_files(tiny100, tools, tmp_path):
    data = tools.tar({INSIDE: b"x"}, mode=0o4777)
    (tmp_path / FILE).write_bytes(data)
    folder = fetch(tools.with_archives(tiny100.entry, {FILE: data}), tmp_path)
    assert (folder / "train").stat().st_mode & 0o7133 == 0


def test_a_set_without_urls_says_what_to_do(tiny100, tmp_path):
    entry = dataclasses.replace(tiny100.entry, manual="Ask for it.")
    with pytest.raises(UsageError, match=f"{FILE} is not in .* and cannot be downloaded. Ask for it."):
        fetch(entry, tmp_path)
    with pytest.raises(UsageError, match="is not downloaded here. Ask for it."):
        fetch(dataclasses.replace(entry, archives=()), tmp_path)


def test_lock_holds_between_processes_and_dies_with_them(entry, tmp_path):
    code = (
        "import sys, pathlib; from cds_lib.study.data.registry import single_writer\n"
        "with single_writer(pathlib.Path(sys.argv[1]), 'cifar100'): print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"process {child.pid} .* is writing cifar100"):
            fetch(entry, tmp_path)
        with single_writer(tmp_path, "cifar10"):  # another set does not block
            pass
    finally:
        child.kill()
        child.communicate()
    with single_writer(tmp_path, "x"), open(tmp_path / ".x.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert fetch(entry, tmp_path).is_dir()


def test_folder_that_cannot_be_written(entry, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write in the data folder"):
        fetch(entry, tmp_path / "file")
