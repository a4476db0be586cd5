"""Fetch a data set: download (resumable), check the md5, only then unpack and rename into place.

Unpacked files never leave the folder that they belong in. ILSVRC images are sorted into class folders.
"""

import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from cds_lib.errors import UsageError
from cds_lib.study.data import layouts, sets
from cds_lib.study.data.images import hidden, image_names
from cds_lib.study.data.registry import DataSet, PublishedFile, md5_of, single_writer
from cds_lib.study.files import new_folder, write_json

BLOCK = 1 << 18  # bytes read at a time
TIMEOUT = 30.0  # seconds without a byte until a connection counts as lost
TRIES = 3  # connections in a row without new data until a server counts as dead
PAUSE = 1.0  # seconds between two connections


def fetch(entry: DataSet, root: Path, offline: bool = False) -> Path:
    """Bring the official files of a data set into `root` and return their folder.

    Does nothing if they are complete, with the published md5 of each file that has one. An archive that is already in
    `root` (put there by hand, or by an earlier fetch) is used without the network. Progress goes to standard error.

    Raises UsageError: a set without archives, offline although a download is needed, another writer, another folder in
    the way, wrong checksum, a failed download (its .part file stays and is resumed next time).
    """
    if not entry.archives:
        raise UsageError(f"{entry.title} is not downloaded here. {entry.manual}")
    folder = root / entry.folder
    with single_writer(root, entry.name):
        wrong = entry.unpublished(root)
        if entry.is_official(root) and not wrong:
            sets.load_real(entry, root)  # images have no checksums of their own, and some may be missing
            print(f"{entry.title}: already in {folder}, whole", file=sys.stderr)
            return folder
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} is in the way: missing or not as published are {', '.join(wrong) or entry.marker}; move "
                "that folder away to fetch the official files."
            )
        for archive in entry.archives:
            _obtain(archive, entry, root, offline)
        _unpack(entry, root)
    print(f"{entry.title}: checked and unpacked to {folder}", file=sys.stderr)
    return folder


def _obtain(archive: PublishedFile, entry: DataSet, root: Path, offline: bool) -> None:
    """Make sure that `root` holds the archive with its published md5; download it if it is missing."""
    path, part = root / archive.name, root / f"{archive.name}.part"
    if path.exists():
        if md5_of(path) != archive.md5:
            raise UsageError(f"the md5 of {path} is not the published {archive.md5}; delete that file and fetch again.")
        return
    if not archive.url or offline or os.environ.get("CDS_OFFLINE", "") not in ("", "0"):
        fault = "fetching is switched off (offline)" if archive.url else "cannot be downloaded"
        raise UsageError(f"{archive.name} is not in {root} and {fault}. {entry.manual}")
    print(f"{entry.title}: {archive.url} (terms: {entry.terms})", file=sys.stderr)
    begun = part.exists()
    try:
        _download(archive.url, part)
        if begun and md5_of(part) != archive.md5:  # the old beginning may be at fault: start again
            part.unlink()
            _download(archive.url, part)
        if md5_of(part) != archive.md5:
            part.unlink()
            raise ValueError("the checksum of what it sent is not the published one")
    except (ValueError, OSError, http.client.HTTPException) as error:  # invalid address, refused, timed out, ...
        raise UsageError(
            f"{archive.name} could not be fetched ({archive.url}: {_one_line(error)}); try again to resume. "
            f"{entry.manual}"
        ) from error
    os.replace(part, path)


def _download(url: str, part: Path) -> None:
    """Download into `part`, resuming with new connections until the file is complete by the server's own count. After
    `TRIES` connections in a row without new data, raise the error of the last one."""
    idle = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            return _transfer(url, part, have)
        except (ValueError, OSError, http.client.HTTPException) as error:
            if have and getattr(error, "code", None) == 416:  # no bytes after these: complete or too long
                return
            idle = 0 if part.exists() and part.stat().st_size > have else idle + 1
            if idle == TRIES:
                raise
        time.sleep(PAUSE)


def _transfer(url: str, part: Path, have: int) -> None:
    """Open one connection and append to `part`, which holds `have` bytes."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.status != 206:  # no support for ranges: from the start
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        interval = 0.2 if sys.stderr.isatty() else 30.0
        shown = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "mininterval": interval}
        with (
            open(part, "ab" if have else "wb") as handle,
            tqdm(desc=f"  {part.stem}", initial=have, total=total, **shown) as bar,
        ):
            while block := response.read(BLOCK):
                have += handle.write(block)
                bar.update(len(block))
            if total and have < total:
                raise ConnectionError("it closed the connection early")


def _one_line(error: Exception) -> str:
    """Shorten an error to one line; servers and tarfile may use many."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _unpack(entry: DataSet, root: Path) -> None:
    """Unpack the archives under a temporary name in `root`, then rename the official folder into place. Raises
    UsageError for an archive that is damaged, would write outside of its folder, or holds something else."""
    with new_folder(root / entry.folder, entry.folder) as building:
        folder = building / entry.folder
        try:
            for archive in entry.archives:
                (building / archive.into).mkdir(parents=True, exist_ok=True)
                _extract(root / archive.name, building / archive.into)
            if entry.layout == "ilsvrc":
                _into_class_folders(folder)
            if not (folder / entry.marker).exists():
                raise ValueError(f"there is no {entry.folder}/{entry.marker}")
        except OSError:  # of the disk, for example
            raise
        except Exception as error:  # a damaged archive can raise nearly anything
            names = ", ".join(archive.name for archive in entry.archives)
            raise UsageError(
                f"{names} in {root} cannot be unpacked ({_one_line(error)}); delete and fetch again."
            ) from error
        if entry.image_size is None and entry.layout != "coco":
            # The images have no published checksums; this sha256 recognises what was unpacked.
            write_json(folder / sets.FETCHED, {"sha256": layouts.read(entry, building).fingerprint()})


def _extract(path: Path, into: Path) -> None:
    if path.suffix == ".mat":
        shutil.copy2(path, into / path.name)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(into)  # keeps every member inside, and makes no links
    else:
        with tarfile.open(path) as archive:
            for member in archive:  # only files and folders inside `into`: Python 3.11.3 has no such filters
                target = into / member.name
                if not (member.isfile() or member.isdir()) or not target.resolve().is_relative_to(into.resolve()):
                    raise tarfile.TarError(f"{member.name!r} is not a file or folder inside it")
                (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
                if member.isfile():  # with the permissions of the user's own new files
                    with archive.extractfile(member) as source, open(target, "wb") as copy:
                        shutil.copyfileobj(source, copy)


def _into_class_folders(folder: Path) -> None:
    """Sort ILSVRC-2012 into class folders: train/<wnid>.tar by name, val/ by the development kit's ground truth."""
    from scipy.io import loadmat

    for archive in sorted(path for path in (folder / "train").glob("*.tar") if not hidden(path.name)):
        _extract(archive, folder / "train" / archive.stem)
        archive.unlink()
    kit, val = folder / "ILSVRC2012_devkit_t12" / "data", folder / "val"
    synsets = loadmat(kit / "meta.mat", squeeze_me=True)["synsets"]
    wnids = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if not int(one["num_children"])}
    truth = [wnids[int(line)] for line in (kit / "ILSVRC2012_validation_ground_truth.txt").read_text().split()]
    for image, wnid in zip(image_names(val), truth, strict=True):
        (val / wnid).mkdir(exist_ok=True)
        os.rename(val / image, val / wnid / image)
