"""Unpack checked archives so that nothing ever leaves the folder it belongs in, and bring ILSVRC into folders."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.data.image_files import hidden, image_names
from cds_lib.study.data.registry import Archive, DataSet

# Of the errors of the system those that an archive causes: a file of it is a folder too.
_OF_THE_ARCHIVE = (FileExistsError, NotADirectoryError, IsADirectoryError, gzip.BadGzipFile)


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
            except Exception as error:  # a damaged archive, or one that was made to do harm, can raise nearly anything
                if isinstance(error, OSError) and not isinstance(error, _OF_THE_ARCHIVE):
                    raise
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
            archive.extractall(into)  # keeps every member inside, and makes no links
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
    kit, val = folder / "ILSVRC2012_devkit_t12" / "data", folder / "val"
    try:
        synsets = loadmat(kit / "meta.mat", squeeze_me=True)["synsets"]
        wnids = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if not int(one["num_children"])}
        truth = [wnids[int(line)] for line in (kit / "ILSVRC2012_validation_ground_truth.txt").read_text().split()]
        sorted_into = list(zip(image_names(val), truth, strict=True))
    except Exception as error:  # a broken file can raise nearly anything
        raise UsageError(
            f"the ILSVRC-2012 development kit cannot be read, or is of other images ({error}); get the archives again."
        ) from error
    for image, wnid in sorted_into:
        (val / wnid).mkdir(exist_ok=True)
        os.rename(val / image, val / wnid / image)
