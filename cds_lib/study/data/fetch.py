"""Fetch a data set: download (resumable, several mirrors), check the md5, only then unpack and rename into place.

Nothing that is unpacked ever leaves the folder it belongs in. ILSVRC is brought into folders.
"""

import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from cds_lib.errors import UsageError
from cds_lib.study.data import layouts, sets
from cds_lib.study.data.listing import hidden, image_names
from cds_lib.study.data.registry import Archive, DataSet, md5_of, single_writer
from cds_lib.study.files import new_folder, write_json

BLOCK = 1 << 18  # bytes read at a time
TIMEOUT = 30.0  # seconds without a byte until a connection counts as lost
TRIES = 3  # connections in a row that bring nothing new until a mirror counts as dead
PAUSE = 1.0  # seconds between two connections to the same mirror


class _MirrorFailed(Exception):
    """This mirror cannot deliver the file; the next one may."""


def fetch(entry: DataSet, root: Path, offline: bool = False) -> Path:
    """Bring the official files of a data set into `root` and return their folder.

    Does nothing if they are complete (with the md5 of each file, where one is published). An archive that lies in
    `root` already (put there by hand, or by an earlier fetch) is used without the network. Progress goes to standard
    error.

    Raises UsageError: a set without archives, offline although a download is needed, another writer, another folder in
    the way, wrong checksum, no mirror delivers (the download so far stays as a .part file and is resumed next time).
    """
    if not entry.archives:
        raise UsageError(f"{entry.title} is not downloaded here. {entry.manual}")
    folder = root / entry.folder
    with single_writer(root, entry.name):
        if entry.is_official(root):
            if wrong := entry.unpublished(root):
                raise UsageError(
                    f"{folder} is there already, but missing or not as published: {', '.join(wrong)}; "
                    "move that folder away to fetch the official files."
                )
            if entry.image_size is None:  # no image has a checksum of its own, and half of them may be there
                sets.load_real(entry, root)
            checked = "every file has the published checksum" if entry.image_size else "every image is there"
            print(f"{entry.title}: already in {folder}, {checked}", file=sys.stderr)
            return folder
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} is in the way, and is not {entry.title} as published; move it away to fetch it."
            )
        _unpack([(_obtain(archive, entry, root, offline), archive) for archive in entry.archives], entry, root)
    print(f"{entry.title}: checked and unpacked to {folder}", file=sys.stderr)
    return folder


def _obtain(archive: Archive, entry: DataSet, root: Path, offline: bool) -> Path:
    """The path of the archive with its published md5: the one in `root`, else from the first mirror that works."""
    path, part = root / archive.file, root / f"{archive.file}.part"
    if path.exists():
        if md5_of(path) != archive.md5:
            raise UsageError(f"the md5 of {path} is not the published {archive.md5}; delete that file and fetch again.")
        return path
    if not archive.urls:
        raise UsageError(f"{archive.file} is not in {root} and cannot be downloaded. {entry.manual}")
    if offline or os.environ.get("CDS_OFFLINE", "") not in ("", "0"):
        raise UsageError(f"{archive.file} is not in {root} and fetching is switched off (offline). {entry.manual}")
    failures = []
    for url in archive.urls:
        print(f"{entry.title}: {url} (terms: {entry.terms})", file=sys.stderr)
        try:
            _download(url, part, archive.md5)
        except _MirrorFailed as error:
            failures.append(f"{url}: {error}")
        else:
            os.replace(part, path)
            return path
    raise UsageError(
        f"{archive.file} could not be fetched ({'; '.join(failures)}); try again to resume. {entry.manual}"
    )


def _download(url: str, part: Path, md5: str) -> None:
    """Make connections to one mirror, each going on where the last one broke off, until `part` is the file."""
    resumed, idle = part.exists(), 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        reason = "it closed the connection early"
        try:
            if _transfer(url, part, before):
                break
        except urllib.error.HTTPError as error:
            raise _MirrorFailed(f"it answered {error.code} {_one_line(error.reason)}") from error
        except ValueError as error:  # its address, one it redirects to, or a length is malformed
            raise _MirrorFailed(_one_line(error)) from error
        except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, disk full, ...
            reason = _one_line(getattr(error, "reason", None) or error) or type(error).__name__
        idle = 0 if part.exists() and part.stat().st_size > before else idle + 1
        if idle == TRIES:
            raise _MirrorFailed(reason)
        time.sleep(PAUSE)
    if md5_of(part) != md5:
        part.unlink()
        if not resumed:
            raise _MirrorFailed("the checksum of what it sent is not the published one")
        _download(url, part, md5)  # the old beginning may be at fault: once more from the start


def _one_line(words: object) -> str:
    """The reason for a failure; servers may send many lines."""
    return " ".join(str(words).split())[:200]


def _transfer(url: str, part: Path, have: int) -> bool:
    """One connection: append to `part`, which holds `have` bytes. True if complete by the server's own count."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # no bytes after `have`: complete or too long, the checksum will tell
            return True
        raise
    with response:
        if response.status != 206:  # no support for ranges: from the start
            have = 0
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise _MirrorFailed("it sent another range than was asked for")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        interval = 0.2 if sys.stderr.isatty() else 30.0
        shown = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "mininterval": interval}
        with (
            open(part, "ab" if have else "wb") as handle,
            tqdm(desc=f"  {part.stem}", initial=have, total=total, **shown) as bar,
        ):
            while block := response.read(BLOCK):
                handle.write(block)
                have += len(block)
                bar.update(len(block))
    return total is None or have >= total


def _unpack(archives: Iterable[tuple[Path, Archive]], entry: DataSet, root: Path) -> None:
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
            # The images have no published checksums: this one recognises what was unpacked.
            sha256 = layouts.read(entry, building).fingerprint()
            write_json(building / entry.folder / sets.FETCHED, {"sha256": sha256})


def _extract(path: Path, into: Path) -> None:
    if path.suffix == ".mat":
        shutil.copy2(path, into / path.name)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(into)  # keeps every member inside, and makes no links
    else:
        with tarfile.open(path) as archive:
            for member in archive:  # files and folders inside of `into` alone: Python 3.11.3 has no such filters
                target = into / member.name
                if not (member.isfile() or member.isdir()) or not target.resolve().is_relative_to(into.resolve()):
                    raise tarfile.TarError(f"{member.name!r} is no file or folder inside of it")
                (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
                if member.isfile():  # with the permissions of the user's own new files
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
