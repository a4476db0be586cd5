import dataclasses
import fcntl
import io
import socket
import subprocess
import sys
import tarfile
import threading

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar
from cds_lib.study.data.fetch import fetch, md5_of
from cds_lib.study.data.writing import single_writer

PATH = "/cifar-100-python.tar.gz"


@pytest.fixture
def served(mirror, tiny100, tools):
    """The tiny CIFAR-100 on the local mirror: (mirror, entry whose only url is the mirror's)."""
    mirror.files[PATH] = tiny100.archive
    return mirror, tools.with_archive(tiny100.entry, tiny100.archive, mirror.url(PATH))


def part_of(root):
    return root / "cifar-100-python.tar.gz.part"


def names(root):
    return sorted(p.name for p in root.iterdir())


def test_fetch_unpacks_the_official_files(served, tiny100, tmp_path):
    mirror, entry = served
    out = io.StringIO()
    root = tmp_path / "new" / "data"
    folder = fetch(entry, root, out=out)
    assert folder == root / "cifar-100-python"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == tiny100.files
    assert names(root) == [".cifar100.lock", "cifar-100-python", "cifar-100-python.tar.gz"]
    arrays, unpublished = cifar.read(entry, folder)
    assert len(arrays.train_labels) == 200 and unpublished == ()
    text = out.getvalue()
    assert mirror.url(PATH) in text and "100%" in text and entry.terms in text


def test_fetch_again_does_nothing(served, tmp_path):
    mirror, entry = served
    fetch(entry, tmp_path, out=io.StringIO())
    out = io.StringIO()
    fetch(entry, tmp_path, offline=True, out=out)
    assert len(mirror.asked) == 1 and "already" in out.getvalue()


def test_resumes_where_a_part_file_ends(served, tiny100, tmp_path):
    mirror, entry = served
    part_of(tmp_path).write_bytes(tiny100.archive[:1000])
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked == [(PATH, "bytes=1000-")]
    assert not part_of(tmp_path).exists()


def test_broken_connections_are_continued(served, tiny100, tmp_path):
    mirror, entry = served
    mirror.cut = len(tiny100.archive) // 4 + 1
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked == [(PATH, None)] + [(PATH, f"bytes={k * mirror.cut}-") for k in (1, 2, 3)]


def test_server_without_ranges_starts_over(served, tiny100, tmp_path):
    mirror, entry = served
    mirror.ranges = False
    part_of(tmp_path).write_bytes(b"x" * 1000)
    fetch(entry, tmp_path, out=io.StringIO())
    assert md5_of(tmp_path / "cifar-100-python.tar.gz") == entry.archives[0].md5


def test_truncating_server_without_ranges_gives_up_and_keeps_the_part(served, tmp_path):
    mirror, entry = served
    mirror.ranges, mirror.cut = False, 5000
    with pytest.raises(UsageError, match="could not be fetched .*closed the connection early.*try again to resume"):
        fetch(entry, tmp_path, out=io.StringIO())
    assert part_of(tmp_path).stat().st_size == 5000
    assert not (tmp_path / entry.folder).exists()
    mirror.ranges, mirror.cut = True, None
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked[-1] == (PATH, "bytes=5000-")


def test_complete_part_file_is_not_fetched_again(served, tiny100, tmp_path):
    mirror, entry = served
    part_of(tmp_path).write_bytes(tiny100.archive)
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked == [(PATH, f"bytes={len(tiny100.archive)}-")]


def test_overlong_part_file_is_dropped(served, tiny100, tmp_path):
    mirror, entry = served
    part_of(tmp_path).write_bytes(tiny100.archive + b"more")
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked[-1] == (PATH, None)


def test_wrong_beginning_of_a_part_file_is_found_by_the_checksum(served, tmp_path):
    mirror, entry = served
    part_of(tmp_path).write_bytes(b"x" * 1000)
    fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.asked == [(PATH, "bytes=1000-"), (PATH, None)]


def test_wrong_checksum_is_never_unpacked(served, tmp_path):
    mirror, entry = served
    mirror.files[PATH] = b"\x80garbage" * 100
    with pytest.raises(UsageError, match="checksum of what it sent is not the published one"):
        fetch(entry, tmp_path, out=io.StringIO())
    assert names(tmp_path) == [".cifar100.lock"]


def dead_url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/x"


def test_dead_missing_and_wrong_mirrors_are_passed_over(mirror, tiny100, tools, tmp_path):
    mirror.files |= {"/wrong": b"something else", "/good": tiny100.archive}
    urls = [dead_url(), mirror.url("/nowhere"), mirror.url("/wrong"), mirror.url("/good")]
    entry = tools.with_archive(tiny100.entry, tiny100.archive, *urls)
    assert fetch(entry, tmp_path, out=io.StringIO()).is_dir()
    assert [path for path, _ in mirror.asked] == ["/nowhere", "/wrong", "/good"]


LENGTHS = ["abc", "9" * 5000, "9" * 400, "-5", "1_0", "1.5", "\u00b2"]
PLACES = ["http://[::1", "http://[none]/", "http://a..b/", "http://x:port/", "file:///etc/passwd", "/odd", "\u00e9://"]


@pytest.mark.parametrize(
    "header", [*(("Content-Length", n) for n in LENGTHS), *(("Location", p) for p in PLACES)], ids=ascii
)
def test_a_mirror_that_answers_nonsense_is_passed_over(header, mirror, tiny100, tools, tmp_path):
    mirror.odd["/odd"] = (200 if header[0] == "Content-Length" else 302, *header)
    entry = tools.with_archive(tiny100.entry, tiny100.archive, mirror.url("/odd"), mirror.url("/good"))
    with pytest.raises(UsageError) as caught:
        fetch(entry, tmp_path, out=io.StringIO())
    assert mirror.url("/odd: ") in str(caught.value) and "404" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1500
    mirror.files["/good"] = tiny100.archive
    assert fetch(entry, tmp_path, out=io.StringIO()).is_dir()


@pytest.mark.parametrize("url", ["nonsense", "http://[::1"])
def test_an_address_that_is_none_is_passed_over(url, mirror, tiny100, tools, tmp_path):
    mirror.files["/good"] = tiny100.archive
    entry = tools.with_archive(tiny100.entry, tiny100.archive, url, mirror.url("/good"))
    assert fetch(entry, tmp_path, out=io.StringIO()).is_dir()


def test_all_mirrors_dead_names_each_and_the_manual_way(mirror, tiny100, tools, tmp_path):
    dead = dead_url()
    entry = tools.with_archive(tiny100.entry, tiny100.archive, dead, mirror.url("/nowhere"))
    with pytest.raises(UsageError) as caught:
        fetch(entry, tmp_path, out=io.StringIO())
    text = str(caught.value)
    assert dead in text and "404" in text and entry.manual in text


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_refuses(served, tmp_path, monkeypatch, how):
    mirror, entry = served
    if how == "environment":
        monkeypatch.setenv("CDS_OFFLINE", "1")
    with pytest.raises(UsageError, match="offline"):
        fetch(entry, tmp_path, offline=how == "argument", out=io.StringIO())
    assert mirror.asked == []


def test_offline_uses_an_archive_put_there_by_hand(served, tiny100, tmp_path):
    mirror, entry = served
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(tiny100.archive)
    assert fetch(entry, tmp_path, offline=True, out=io.StringIO()).is_dir()
    assert mirror.asked == []


def test_wrong_archive_put_there_by_hand_is_refused(served, tmp_path):
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"not it")
    with pytest.raises(UsageError, match="is not the published .* delete that file"):
        fetch(served[1], tmp_path, out=io.StringIO())


def test_other_folder_in_the_way_is_left_alone(served, tiny100, tmp_path):
    mirror, entry = served
    folder = tiny100.write(tmp_path)
    (folder / "test").write_bytes(b"repacked")
    (folder / "meta").unlink()
    with pytest.raises(UsageError, match="not as published: test, meta; move that folder away"):
        fetch(entry, tmp_path, out=io.StringIO())
    assert (folder / "test").read_bytes() == b"repacked" and mirror.asked == []


def hostile(kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        if kind == "parent":
            member = tarfile.TarInfo("cifar-100-python/../../outside")
        elif kind == "link":
            member = tarfile.TarInfo("cifar-100-python/train")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        else:
            member = tarfile.TarInfo("cifar-100-python/pipe")
            member.type = tarfile.FIFOTYPE
        tar.addfile(member)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["parent", "link", "device"])
def test_members_never_leave_the_folder(tiny100, tools, tmp_path, kind):
    data, root = hostile(kind), tmp_path / "root"
    root.mkdir()
    (root / "cifar-100-python.tar.gz").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        fetch(tools.with_archive(tiny100.entry, data), root, out=io.StringIO())
    assert names(tmp_path) == ["root"] and names(root) == [".cifar100.lock", "cifar-100-python.tar.gz"]


@pytest.mark.parametrize("data", [b"no archive at all", b"\x1f\x8b\x08broken"])
def test_broken_archive(tiny100, tools, tmp_path, data):
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        fetch(tools.with_archive(tiny100.entry, data), tmp_path, out=io.StringIO())


def test_archive_without_the_folder(tiny100, tools, tmp_path):
    data = tools.tar_gz({"other/train": b""})
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(data)
    with pytest.raises(UsageError, match="there is no cifar-100-python in it"):
        fetch(tools.with_archive(tiny100.entry, data), tmp_path, out=io.StringIO())
    assert names(tmp_path) == [".cifar100.lock", "cifar-100-python.tar.gz"]


def test_leftovers_of_a_crash_are_cleared(served, tmp_path):
    stale = tmp_path / ".cifar100.unpacking" / "cifar-100-python"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    folder = fetch(served[1], tmp_path, out=io.StringIO())
    assert sorted(p.name for p in folder.iterdir()) == ["meta", "test", "train"]


def test_second_writer_is_told_to_wait(served, tmp_path):
    with single_writer(tmp_path, "cifar100"), pytest.raises(UsageError, match="process .* is writing cifar100"):
        fetch(served[1], tmp_path, out=io.StringIO())
    with single_writer(tmp_path, "cifar10"):  # another set is no obstacle
        fetch(served[1], tmp_path, out=io.StringIO())


def test_lock_holds_between_processes_and_dies_with_them(tmp_path):
    code = (
        "import sys, pathlib; from cds_lib.study.data.writing import single_writer\n"
        "with single_writer(pathlib.Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="is writing"), single_writer(tmp_path, "x"):
            pass
    finally:
        child.kill()
        child.communicate()
    with single_writer(tmp_path, "x"), open(tmp_path / ".x.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_two_fetches_at_once_leave_one_good_copy(served, tmp_path):
    entry, results = served[1], []

    def run():
        try:
            results.append(fetch(entry, tmp_path, out=io.StringIO()).name)
        except UsageError as error:
            results.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "cifar-100-python" in results
    assert all(r == "cifar-100-python" or "is writing" in r for r in results), results
    assert cifar.read(entry, tmp_path / entry.folder)[1] == ()


def test_folder_that_cannot_be_written(served, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write in the data folder"):
        fetch(served[1], tmp_path / "file", out=io.StringIO())


def test_several_archives_unpack_together(served, tools, tmp_path, tiny100):
    mirror, entry = served
    halves = [{"train": tiny100.files["train"]}, {k: tiny100.files[k] for k in ("test", "meta")}]
    archives = []
    for number, half in enumerate(halves):
        data = tools.tar_gz({f"cifar-100-python/{name}": content for name, content in half.items()})
        mirror.files[f"/{number}"] = data
        archive = tools.with_archive(entry, data, mirror.url(f"/{number}")).archives[0]
        archives.append(dataclasses.replace(archive, file=f"{number}.tar.gz"))
    folder = fetch(dataclasses.replace(entry, archives=tuple(archives)), tmp_path, out=io.StringIO())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == tiny100.files
