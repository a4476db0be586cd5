"""Unpack checked archives so that nothing ever leaves the folder it belongs in, and bring ILSVRC into folders."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import hidden, image_names
from cds_lib.study.data.registry import Archive, DataSet

# What a damaged archive, or one that was made to do harm, can raise; a file that is a folder too is one.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(FileExistsError, NotADirectoryError, IsADirectoryError, RuntimeError, ValueError, OverflowError),
)


def unpack(
    archives: Sequence[tuple[Path, Archive]],
    entry: DataSet,
    root: Path,
    record: Callable[[Path], None] = lambda unpacked: None,
) -> None:
    """Unpack under a temporary name in `root`, then rename the official folder into place.

    `archives`: each file with its entry; `record`: called before the renaming, with the folder that is `root` until
    then. Raises UsageError for an archive that is damaged, or that would write outside of its folder.
    """
    scratch = root / f".{entry.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        for path, archive in archives:
            into = scratch / archive.into
            into.mkdir(parents=True, exist_ok=True)
            try:
                _extract(path, into)
            except _BROKEN as error:
                raise UsageError(f"{path} cannot be unpacked ({error}); delete it and fetch again.") from error
        if entry.layout == "ilsvrc":
            _into_class_folders(scratch / entry.folder)
        if not (scratch / entry.folder / entry.marker).exists():
            names = ", ".join(path.name for path, _ in archives)
            wanted = "/".join(filter(None, (entry.folder, entry.marker)))
            raise UsageError(f"{names}: there is no {wanted} in it; delete it and fetch again.")
        record(scratch)
        target = root / entry.folder
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        os.rename(scratch / entry.folder, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(path: Path, into: Path) -> None:
    if path.suffix == ".mat":
        shutil.copy2(path, into / path.name)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not (into / member).resolve().is_relative_to(into.resolve()):
                    raise zipfile.BadZipFile(f"{member!r} would leave the folder")
            archive.extractall(into)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                _extract_member(archive, member, into)


def _extract_member(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """Files and folders inside of `into` alone: no links, no devices. Their permissions are those of the user's own new
    files, whatever the archive says. (tarfile's own filters for this are not in every Python 3.11.)"""
    target = into / member.name
    if not target.resolve().is_relative_to(into.resolve()):
        raise tarfile.TarError(f"{member.name!r} would leave the folder")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.extractfile(member) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
    else:
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")


def _into_class_folders(folder: Path) -> None:
    """ILSVRC-2012: train/<wnid>.tar each into its folder; those of val/ by the ground truth of the development kit."""
    from scipy.io import loadmat

    for archive in sorted(path for path in (folder / "train").glob("*.tar") if not hidden(path.name)):
        _extract(archive, folder / "train" / archive.stem)
        archive.unlink()
    kit = folder / "ILSVRC2012_devkit_t12" / "data"
    try:
        synsets = loadmat(kit / "meta.mat", squeeze_me=True)["synsets"]
        wnids = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if not int(one["num_children"])}
        truth = [wnids[int(line)] for line in (kit / "ILSVRC2012_validation_ground_truth.txt").read_text().split()]
    except Exception as error:  # a broken file can raise nearly anything
        raise UsageError(f"the ILSVRC-2012 development kit cannot be read ({error}); get its archive again.") from error
    try:
        images = image_names(folder / "val")
    except (OSError, UsageError) as error:
        raise UsageError(f"the validation images cannot be told ({error}); get the archives again.") from error
    if len(images) != len(truth):
        raise UsageError(f"there are {len(images)} validation images for {len(truth)} labels; get the archives again.")
    for image, wnid in zip(images, truth, strict=True):
        (folder / "val" / wnid).mkdir(exist_ok=True)
        os.rename(folder / "val" / image, folder / "val" / wnid / image)
