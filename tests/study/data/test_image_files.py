"""Image files are decoded as by Pillow, in order, into small arrays, or refused in one sentence."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cds_lib.errors import UsageError
from cds_lib.study.data import image_files, stream
from cds_lib.study.errors import RunError

SIDE = 24


def encoded(form, mode, size=(40, 24)):
    pixels = np.random.default_rng(5).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


FORMS = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("WEBP", "RGB")]
FORMS += [("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB")]
WHOLE = {form: encoded(*form) for form in FORMS}


def read_in_every_way(path):
    """Return the square, or None if it is refused; all readers of the library must agree."""
    (square,) = image_files.decoded([path], lambda image: image_files.square(image, 16))
    refused = isinstance(square, str)
    assert bool(image_files.broken_images([path])) == refused
    if refused:
        assert len(square.splitlines()) == 1
        with pytest.raises(RunError, match="cannot be used"):
            stream.decode(path)
        return None
    assert square.shape == (16, 16, 3) and square.dtype == np.uint8
    assert stream.decode(path).mode == "RGB"
    return square


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60)
@given(
    st.sampled_from(list(WHOLE.values())), st.lists(st.tuples(st.floats(0, 0.99), st.integers(0, 255))), st.floats(0, 1)
)
def test_damaged_images(tmp_path, content, changes, kept):
    content = bytearray(content)
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path / "image.jpg"
    path.write_bytes(content[: int(kept * len(content))])
    read_in_every_way(path)


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_images_of_every_mode_are_read_as_pillow_reads_them(form, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(WHOLE[form])
    assert read_in_every_way(path) is not None
    assert np.array_equal(image_files.read_rgb(path), Image.open(path).convert("RGB"))


RAMP = np.arange(64 * 64).reshape(64, 64)


def with_side(side):
    """Return a few bytes that declare 10 or 1.2 GB of pixels."""
    content = bytearray(WHOLE["BMP", "RGB"])
    content[18:26] = side.to_bytes(4, "little") * 2
    return content


REFUSED = {
    "16 bits": lambda path: Image.fromarray((RAMP * 16).astype(np.uint16)).save(path),  # clipped by Image.convert
    "32 bits": lambda path: Image.fromarray((RAMP * 16).astype(np.int32)).save(path, "TIFF"),
    "floats": lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path, "TIFF"),
    "narrow": lambda path: Image.new("RGB", (1, 5000)).save(path),
    "huge": lambda path: path.write_bytes(with_side(60_000)),
    "a folder": lambda path: path.mkdir(),
    "a bomb": lambda path: path.write_bytes(with_side(20_000)),
}


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
def test_images_that_would_become_others_are_refused(write, tmp_path):
    write(tmp_path / "image.png")
    assert read_in_every_way(tmp_path / "image.png") is None


def test_only_named_formats_are_opened(tmp_path, monkeypatch):
    """For an EPS file of any name, Pillow would start Ghostscript."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "image.jpg"
    for form in ("EPS", "PDF", "ICO", "TGA"):
        Image.new("RGB", (40, 24)).save(path, form)
        assert read_in_every_way(path) is None
    assert not (tmp_path / "started").exists()


def test_many_images_are_decoded_in_order_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(image_files, "_CHUNK", 2)
    begun = []
    monkeypatch.setattr(image_files, "read_rgb", lambda path, size: begun.append(path) or path.name)
    found = image_files.decoded([Path(str(number)) for number in range(5)], str)
    assert next(found) == "0" and len(begun) <= 2
    assert list(found) == ["1", "2", "3", "4"]


@pytest.fixture
def splits(tmp_path):
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, size in zip(paths, [(50, 34), (34, 50), (24, 24), (10, 12)], strict=True):
        Image.fromarray(random.integers(256, size=(*size, 3), dtype=np.uint8)).save(path)
    return {"train": paths[:2], "test": paths[2:]}


def test_small_arrays_are_pillows_pixels_made_once(splits, tmp_path):
    train, test = image_files.arrays(splits, "some", tmp_path, SIDE)
    for row, path in zip([*train, *test], [*splits["train"], *splits["test"]], strict=True):
        image = Image.open(path)
        short = SIDE / min(image.size)
        image = image.resize([max(SIDE, round(side * short)) for side in image.size], Image.Resampling.BILINEAR)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        expected = np.asarray(image.crop((left, top, left + SIDE, top + SIDE))).transpose(2, 0, 1)
        assert np.array_equal(row, expected)
    train[:] = 0  # the array is the caller's own, so the file does not change
    made = tmp_path / "arrays" / "some" / "train.npy"
    before = made.stat().st_mtime_ns
    again, _ = image_files.arrays(splits, "some", tmp_path, SIDE)
    assert again.max() > 0 and made.stat().st_mtime_ns == before
    made.write_bytes(made.read_bytes()[:-1])  # a copy that was cut off
    with pytest.raises(UsageError, match=r"arrays/some is damaged \(.*\): delete it and run again"):
        image_files.arrays(splits, "some", tmp_path, SIDE)


def test_a_disk_without_room_for_the_small_images_is_one_sentence(splits, tmp_path, monkeypatch):
    def full(file, header):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(UsageError, match=r"cannot write in .* \(No space left on device\).* free space"):
        image_files.arrays(splits, "some", tmp_path, SIDE)
    assert not list((tmp_path / "arrays").iterdir())
