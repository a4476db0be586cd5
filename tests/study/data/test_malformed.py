"""Malformed archives, images, pickles and annotations: taken as they are, or refused in a sentence, and no more."""

import copy
import dataclasses
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import cifar, coco, image_files, stream
from cds_lib.study.data.registry import Archive, entry
from cds_lib.study.data.unpack import unpack
from cds_lib.study.errors import RunError

fixed = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def box(tmp_path_factory):
    """Makes a fresh folder for each example."""
    return lambda: tmp_path_factory.mktemp("box")


@st.composite
def damaged(draw, whole):
    """A file cut off, or with a few other bytes."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


# -- archives ----------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["set", "..", ".", "a", "b", "", "x\n", "\\..", "~"]), min_size=1, max_size=4)
NAMES = NAMES.map("/".join) | st.sampled_from(["/etc/cds", "OUTSIDE", "set/../../outside.txt", "set/a", "set"])
KINDS = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}
MEMBERS = st.lists(st.tuples(st.sampled_from(["file", "file", *KINDS]), NAMES, NAMES), min_size=1, max_size=5)


def tar_of(members, outside):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for kind, name, target in members:
            member = tarfile.TarInfo(name.replace("OUTSIDE", str(outside)))
            member.type, member.mode = KINDS[kind], 0o4777
            member.linkname = target.replace("OUTSIDE", str(outside))
            member.size = 4 if kind == "file" else 0
            archive.addfile(member, io.BytesIO(b"evil"))
    return stream.getvalue()


def zip_of(members, outside):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for kind, name, target in members:
            member = zipfile.ZipInfo(name.replace("OUTSIDE", str(outside)) or "empty")
            member.external_attr = (0o120777 if "link" in kind else 0o104777) << 16
            archive.writestr(member, target if "link" in kind else b"evil")
    return stream.getvalue()


def unpacked(box, suffix, content):
    """Unpack in box/root; returns whether it went through. Nothing but root/set may be there afterwards."""
    outside, root = box / "outside.txt", box / "root"
    outside.write_text("good")
    root.mkdir()
    path = root / f"archive.{suffix}"
    path.write_bytes(content)
    known = dataclasses.replace(entry("cub200"), folder="set", marker="", layout="cub")
    try:
        unpack([(path, Archive(path.name, None, ()))], known, root)
    except UsageError as error:
        assert str(path) in str(error) or path.name in str(error)
        assert sorted(p.name for p in root.iterdir()) == [path.name]
        done = False
    else:
        assert sorted(p.name for p in root.iterdir()) == [path.name, "set"]
        done = True
    assert sorted(p.name for p in box.iterdir()) == ["outside.txt", "root"]
    assert outside.read_text() == "good" and outside.stat().st_nlink == 1
    for made in root.rglob("*"):
        assert not made.is_symlink()
        assert made.is_dir() or (made.is_file() and made.stat().st_mode & 0o7133 == 0)  # the umask's, no more
    assert not Path("/etc/cds").exists()
    return done


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_members_stay_in_their_folder(make, box):
    suffix = "tgz" if make is tar_of else "zip"
    seen = set()

    @settings(fixed, max_examples=40)
    @given(MEMBERS)
    def check(members):
        place = box()
        try:
            content = make(members, place / "outside.txt")
        except (ValueError, UserWarning):
            return
        seen.add(unpacked(place, suffix, content))

    with pytest.warns() if make is zip_of else _nothing():  # zipfile warns about names that are there twice
        check()
    assert seen == {True, False}


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_damaged_archives(make, box):
    members = [("folder", "set", ""), ("file", "set/a", ""), ("file", "set/b", "")]
    members = members[1:] if make is zip_of else members

    @settings(fixed, max_examples=25)
    @given(damaged(st.just(make(members, Path("none")))))
    def check(content):
        unpacked(box(), "tgz" if make is tar_of else "zip", content)

    check()


@pytest.mark.parametrize("declared", [1, 4, 1 << 31])
def test_a_size_that_is_not_the_declared_one(declared, box):
    """A zip whose directory lies about how much is in a member: refused, or all of what is in it and no more."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/a", bytes(100_000))
    content = stream.getvalue().replace((100_000).to_bytes(4, "little"), declared.to_bytes(4, "little"))
    place = box()
    assert unpacked(place, "zip", content) == (declared > 100_000)
    assert sum(path.stat().st_size for path in (place / "root").glob("set/*")) in (0, 100_000)


# -- images ------------------------------------------------------------------------------------------------------------


def encoded(form, mode, size=(40, 24)):
    pixels = np.random.default_rng(5).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


FORMS = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("WEBP", "RGB")]
FORMS += [("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB")]
WHOLE = {form: encoded(*form) for form in FORMS}


def read_in_every_way(path):
    """The square, or None; every reader of the library must be of one opinion."""
    (square,) = image_files.decoded([path], lambda image: image_files.square(image, 16))
    refused = isinstance(square, str)
    assert bool(image_files.broken_images([path])) == refused
    if refused:
        assert len(square.splitlines()) == 1
        with pytest.raises(RunError, match="cannot be decoded"):
            stream.decode(path)
        return None
    assert square.shape == (16, 16, 3) and square.dtype == np.uint8
    assert stream.decode(path).mode == "RGB"
    return square


@pytest.mark.filterwarnings("ignore")
@settings(fixed, max_examples=60)
@given(damaged(st.sampled_from(list(WHOLE.values()))))
def test_damaged_images(box, content):
    path = box() / "image.jpg"
    path.write_bytes(content)
    read_in_every_way(path)


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_images_of_every_mode_are_read_as_pillow_reads_them(form, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(WHOLE[form])
    assert read_in_every_way(path) is not None
    assert np.array_equal(image_files.read_rgb(path), Image.open(path).convert("RGB"))


@pytest.mark.parametrize("kind", ["16 bits", "32 bits", "floats", "narrow", "huge", "a folder", "a bomb"])
def test_images_that_would_become_others_are_refused(kind, tmp_path):
    path = tmp_path / "image.png"
    ramp = np.arange(64 * 64).reshape(64, 64)
    if kind == "16 bits":
        Image.fromarray((ramp * 16).astype(np.uint16)).save(path)  # clipped to 255 by Image.convert
    elif kind == "32 bits":
        Image.fromarray((ramp * 16).astype(np.int32)).save(path, "TIFF")
    elif kind == "floats":
        Image.fromarray(ramp.astype(np.float32)).save(path, "TIFF")
    elif kind == "narrow":
        Image.new("RGB", (1, 5000)).save(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        side = 60_000 if kind == "huge" else 20_000  # 10 and 1.2 GB of pixels in a few bytes
        content = bytearray(WHOLE["BMP", "RGB"])
        content[18:26] = side.to_bytes(4, "little") * 2
        path.write_bytes(content)
    assert read_in_every_way(path) is None


def test_only_named_formats_are_opened(tmp_path, monkeypatch):
    """For an EPS, whatever it is called, Pillow would start Ghostscript."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "image.jpg"
    for form in ("EPS", "PDF", "ICO", "TGA"):
        Image.new("RGB", (40, 24)).save(path, form)
        assert read_in_every_way(path) is None
    assert not (tmp_path / "started").exists()


# -- pickles -----------------------------------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
ARRAYS = st.sampled_from([np.uint8, np.int64, np.float32, "U3", "S2", np.complex64, "M8[s]", object]).flatmap(
    lambda kind: st.sampled_from([(), (0,), (2,), (2, 3072), (1, 3072), (2, 3, 4)]).map(lambda s: np.zeros(s, kind))
)
VALUES = PLAIN | ARRAYS | st.lists(PLAIN, max_size=3)
KEYS = st.sampled_from([b"data", b"fine_labels", "data", "fine_labels"])
BATCHES = st.dictionaries(KEYS | st.text(max_size=3), VALUES, max_size=4) | VALUES


def read_batch(path, content):
    path.write_bytes(content)
    known = entry("cifar100")
    try:
        images, labels = cifar.read_batch(known, path)
    except UsageError as error:
        assert str(path) in str(error)
        return False
    assert images.dtype == np.uint8 and images.shape == (len(labels), 3, 32, 32)
    assert 0 <= labels.min() <= labels.max() < 100
    return True


def test_damaged_batches(tmp_path, tiny100):
    batch = pickle.loads(tiny100.files["test"], encoding="bytes")
    small = {b"data": batch[b"data"][:2], b"fine_labels": batch[b"fine_labels"][:2]}
    seen = set()

    @pytest.mark.filterwarnings("ignore")
    @settings(fixed, max_examples=60)
    @given(damaged(st.integers(0, 5).map(lambda protocol: pickle.dumps(small, protocol))))
    def check(content):
        seen.add(read_batch(tmp_path / "batch", content))

    check()
    assert seen == {True, False}


@settings(fixed, max_examples=40)
@given(BATCHES, st.integers(0, 5))
def test_batches_of_anything(box, content, protocol):
    read_batch(box() / "batch", pickle.dumps(content, protocol))


@pytest.mark.parametrize("kind", ["O", "V8", "M8[s]", "i4,O", "c8"])
def test_numpy_types_that_no_batch_needs_are_refused(kind, tmp_path):
    content = {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [1], b"more": np.zeros(1, kind)}
    assert not read_batch(tmp_path / "batch", pickle.dumps(content, 2))


# -- annotations -------------------------------------------------------------------------------------------------------

ANNOTATIONS = {
    "images": [{"id": k, "file_name": f"{k}.jpg", "height": 30, "width": 40} for k in (9, 3)],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 90, "bbox": [1.5, 2, 10, 20], "area": 150.5, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 3, "bbox": [5, 5, 20, 10], "area": 99, "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
}
ODD = [None, True, -1, 0, 3, 1.5, 9.0, float("nan"), float("inf"), 10**400, 1e300, "", "9", "../../x", [], [1], {}]


def places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


PLACES = list(places(ANNOTATIONS))
CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(["gone", *ODD])), min_size=1, max_size=2)


def read_annotations(folder, content):
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        (folder / f"{split}2017").mkdir()
        for name in ("9.jpg", "3.jpg"):
            (folder / f"{split}2017" / name).touch()
    try:
        data = coco.read(folder)
    except UsageError as error:
        assert len(str(error)) < 1500
        return False
    for image in data.val:
        assert image.path.resolve().parent == (folder / "val2017").resolve()
        assert type(image.image_id) is int and min(image.height, image.width) > 0
        assert np.isfinite(image.boxes).all() and np.isfinite(image.area).all()
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
        assert ((image.labels >= 1) & (image.labels <= len(data.names))).all()
    assert len({image.image_id for image in data.val}) == len(data.val)
    return True


@settings(fixed, max_examples=80)
@given(CHANGES)
def test_odd_annotations(box, changes):
    content = copy.deepcopy(ANNOTATIONS)
    for path, value in changes:
        holder = content
        try:
            for key in path[:-1]:
                holder = holder[key]
            if isinstance(value, str) and value == "gone":
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # the first change took the place of the second away
    read_annotations(box(), content)


def test_whole_annotations_are_read(tmp_path):
    assert read_annotations(tmp_path, ANNOTATIONS)


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 200_000, '{"images": [], "annotations": [], "categories": []}', "\ud800"]
)
def test_annotations_that_are_none(content, tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"instances_{split}2017.json"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match="again"):
        coco.read(tmp_path)


def test_train_and_val_of_different_categories_are_refused(tmp_path):
    assert read_annotations(tmp_path, ANNOTATIONS)
    other = {**ANNOTATIONS, "categories": ANNOTATIONS["categories"] + [{"id": 1, "name": "person"}]}
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(other))
    with pytest.raises(UsageError, match="do not name the same categories"):
        coco.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"folder": 3}', "[" * 200_000])
def test_a_damaged_record_of_an_import(content, tmp_path):
    record = tmp_path / "imported" / "coco" / "info.json"
    record.parent.mkdir(parents=True)
    record.write_text(content)
    with pytest.raises(UsageError, match="delete it and import again"):
        coco.load(tmp_path, "real")
