"""Tiny data sets in the official layout, pickled as Python 2 pickled the official ones, and a local mirror."""

import dataclasses
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import types

import numpy as np
import pytest

from cds_lib.study.data import fetch, registry

TINY = {"cifar10": (4, 20), "cifar100": (200, 100)}  # images per training batch, and in the test batch


class Python2Pickler(pickle._Pickler):
    """Pickle like Python 2 with protocol 2: all strings are byte strings, booleans in dtypes are 0 and 1."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text.encode() if isinstance(text, str) else text
        short = len(data) < 256
        self.write(b"U" + bytes([len(data)]) + data if short else b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    def save_integer(self, value):
        self.save_long(int(value))

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[bool] = save_integer


def python2_pickle(content):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")  # NumPy's module name of that time


def tiny_contents(name):
    """Return {file name: dict} of a tiny set with random pixels and cyclic labels."""
    random, known = np.random.default_rng(len(name)), registry.entry(name)
    per_batch, test = TINY[name]
    contents, start = {}, 0
    for file in known.files:
        if file.part == "meta":
            words = [f"class_{label:02d}" for label in range(known.classes)]
            contents[file.name] = {"label_names" if name == "cifar10" else "fine_label_names": words}
            continue
        count = test if file.part == "test" else per_batch
        labels = [(start + i) % known.classes for i in range(count)]
        start = 0 if file.part == "test" else start + count
        data = random.integers(256, size=(count, 3072), dtype=np.uint8)
        names = [f"image_{i}.png" for i in range(count)]
        content = {"data": data, "filenames": names, "batch_label": f"{file.part} batch"}
        if name == "cifar100":
            contents[file.name] = content | {"fine_labels": labels, "coarse_labels": [x // 5 for x in labels]}
        else:
            contents[file.name] = content | {"labels": labels}
    return contents


@dataclasses.dataclass(frozen=True)
class TinySet:
    entry: registry.DataSet  # with the counts and checksums of the tiny files
    contents: dict
    files: dict  # file name -> bytes
    archive: bytes

    def write(self, root):
        folder = root / self.entry.folder
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder


def part_of(entry, part):
    """Return the published files of one part, in the order in which they are read."""
    return [file for file in entry.files if file.part == part]


def tar(members, form="w:gz", **attributes):
    """Return the bytes of a .tar.gz of {name: bytes}; all members get the attributes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=form) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def with_archives(entry, data, url=""):
    """Return the entry with {file name: bytes} as its archives: their md5, and `url` as their address."""
    known = {archive.name: archive for archive in entry.archives}
    archives = [
        known.get(file, entry.archives[0])._replace(name=file, md5=hashlib.md5(content).hexdigest(), url=url)
        for file, content in data.items()
    ]
    return dataclasses.replace(entry, archives=tuple(archives))


def make_tiny(name):
    known, contents = registry.entry(name), tiny_contents(name)
    files = {file: python2_pickle(content) for file, content in contents.items()}
    published = tuple(f._replace(md5=hashlib.md5(files[f.name]).hexdigest()) for f in known.files)
    archive = tar({f"{known.folder}/{file}": data for file, data in files.items()})
    per_batch, test = TINY[name]
    known = dataclasses.replace(known, train=per_batch * len(part_of(known, "train")), test=test, files=published)
    return TinySet(with_archives(known, {known.archives[0].name: archive}), contents, files, archive)


@pytest.fixture(scope="session")
def tiny10():
    return make_tiny("cifar10")


@pytest.fixture(scope="session")
def tiny100():
    return make_tiny("cifar100")


@pytest.fixture
def tiny_registry(monkeypatch, tiny10, tiny100):
    """Replace the real sets in the library's registry by the tiny ones."""
    known = {"cifar10": tiny10.entry, "cifar100": tiny100.entry}
    monkeypatch.setattr(registry, "entries", lambda: known)
    monkeypatch.setattr("cds_lib.study.data.cli.entries", lambda: known)
    return known


@pytest.fixture
def tools():
    return types.SimpleNamespace(tar=tar, with_archives=with_archives)


class Mirror:
    """A local web server. `files` maps path -> bytes. `cut` closes each connection after that many bytes. `odd` maps
    path -> (status, header, value), which replaces the file."""

    def __init__(self):
        self.files, self.ranges, self.cut, self.asked, self.odd = {}, True, None, [], {}
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                mirror.asked.append((self.path, asked))
                if self.path in mirror.odd:
                    status, header, value = mirror.odd[self.path]
                    self.send_response(status)
                    self.send_header(header, value)
                    return self.end_headers()
                body = mirror.files.get(self.path)
                if body is None:
                    return self.send_error(404)
                start, size = 0, len(body)
                if asked and mirror.ranges:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= size:
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{size}")
                        self.send_header("Content-Length", "0")
                        return self.end_headers()
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(size - start))
                self.end_headers()
                self.wfile.write(body[start : None if mirror.cut is None else start + mirror.cut])

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CDS_OFFLINE", raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    mirror = Mirror()
    yield mirror
    mirror.close()
