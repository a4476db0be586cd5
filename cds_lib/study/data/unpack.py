"""Unpack checked archives so that nothing ever leaves the folder it belongs in, and bring ILSVRC into folders."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.data import layouts
from cds_lib.study.data.listing import hidden, image_names
from cds_lib.study.data.registry import Archive, DataSet
from cds_lib.study.files import new_folder, write_json

FETCHED = "fetched.json"  # in an official folder of image files: the fingerprint of what was unpacked


def unpack(archives: Iterable[tuple[Path, Archive]], entry: DataSet, root: Path) -> None:
    """Unpack under a temporary name in `root`, then rename the official folder into place.

    `archives`: each file with its entry. Raises UsageError for an archive that is damaged, or that would write outside
    of its folder.
    """
    with new_folder(root / entry.folder, entry.folder) as building:
        for path, archive in archives:
            into = building / archive.into
            into.mkdir(parents=True, exist_ok=True)
            try:
                _extract(path, into)
            except OSError:  # of the disk, say
                raise
            except Exception as error:  # a damaged archive can raise nearly anything
                raise UsageError(f"{path} cannot be unpacked ({error}); delete it and fetch again.") from error
        if entry.layout == "ilsvrc":
            _into_class_folders(building / entry.folder)
        if not (building / entry.folder / entry.marker).exists():
            wanted = "/".join(filter(None, (entry.folder, entry.marker)))
            raise UsageError(f"the archives of {entry.title} hold no {wanted}; delete them and fetch again.")
        if entry.image_size is None and entry.layout != "coco":
            # Their images have no checksums of their own: what was unpacked is known by this again.
            sha256 = layouts.read(entry, building).fingerprint()
            write_json(building / entry.folder / FETCHED, {"sha256": sha256})


def is_verified(entry: DataSet, root: Path, sha256: str) -> bool:
    """Whether the files with this fingerprint are those that were unpacked from archives with the published md5."""
    try:
        return json.loads((root / entry.folder / FETCHED).read_text())["sha256"] == sha256
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    """Files and folders inside of `into` alone, with the permissions of the user's own new files.

    Not every Python 3.11 has tarfile's own filters."""
    target = into / member.name
    if not (member.isfile() or member.isdir()) or not target.resolve().is_relative_to(into.resolve()):
        raise tarfile.TarError(f"{member.name!r} is no file or folder inside of it")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.extractfile(member) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)


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
