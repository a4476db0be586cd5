"""Facts about each data set (registry.toml), the data folder and its write locks. Imports no torch or NumPy."""

import contextlib
import hashlib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cds_lib.errors import UsageError
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import cure
from cds_lib.study.files import locked

REGISTRY = Path(__file__).with_name("registry.toml")


class PublishedFile(NamedTuple):
    """A published file and its md5 (hex). part: for a file in the official folder, what it belongs to (train, test or
    meta). url: for an archive or loose file; empty if it must be put in place by hand. into: the folder below the data
    folder that it is unpacked into."""

    name: str
    md5: str
    part: str = ""
    url: str = ""
    into: str = ""


@dataclass(frozen=True)
class DataSet:
    """One entry of registry.toml, see the comment there."""

    name: str
    title: str
    page: str
    terms: str
    manual: str
    classes: int
    train: int
    test: int
    layout: str = ""
    folder: str = ""
    marker: str = ""
    archives: tuple[PublishedFile, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    image_size: int | None = None

    def is_official(self, root: Path) -> bool:
        """Whether the data folder `root` holds the set in its published layout, and this layout can be read here."""
        return bool(self.layout) and (root / self.folder / self.marker).exists()

    def imported(self, root: Path) -> Path:
        """Return where in the data folder `root` the imported arrays, or the listing, lie."""
        return root / "imported" / self.name

    def held_at(self, root: Path) -> list[Path]:
        """Return the folders that hold the set, as published or imported; none if it is not there."""
        official, imported = root / self.folder, self.imported(root)
        return [official] * self.is_official(root) + [imported] * imported.is_dir()

    def unpublished(self, root: Path) -> dict[str, str]:
        """Return {name: fault} of the `files` that the data folder `root` lacks or that lack their published md5."""
        wrong = {}
        for file in self.files:
            path = root / self.folder / file.name
            if not path.is_file():
                wrong[file.name] = f"{path} is missing"
            elif (md5 := md5_of(path)) != file.md5:
                wrong[file.name] = f"{path}: checksum not the published one (md5 {md5}, published {file.md5})"
        return wrong

    @property
    def counts(self) -> tuple[int, int, int]:
        """Classes, training images, test images."""
        return self.classes, self.train, self.test

    def provenance(
        self,
        kind: str,
        counts: tuple[int, int, int],
        sha256: str,
        how: str = "no published checksum to compare with",
        verified: bool = False,
    ) -> dict[str, Any]:
        """Describe loaded images: kind ("standin", "official" or "imported"), complete (the official number of images
        and classes), verified (every file, or every archive it came from, has its published md5), train and test
        (counts), sha256 (of images and labels before any resizing, see `Images.fingerprint`), note (one sentence)."""
        pairs = [number for both in zip(counts, self.counts, strict=True) for number in both]
        part = "a subset ({} of {} classes, {} of {} training, {} of {} test images)".format(*pairs)
        extent = "complete" if counts == self.counts else part
        origin = {"official": "official layout", "imported": "imported from image folders"}.get(kind)
        return {
            "kind": kind,
            "complete": counts == self.counts,
            "verified": verified,
            "train": counts[1],
            "test": counts[2],
            "sha256": sha256,
            "note": f"{origin}, {extent}, {how}" if origin else how,
        }

    def missing(self, root: Path) -> str:
        """Say in one sentence that the set is not in the data folder `root`, and what to run."""
        command, held = f"python -m cds_lib data {{}} {self.name} {{}}--data-root {root}", root / self.name
        if (held / "train").is_dir():
            importing = command.format("import", f"--folder {held} ")
            return f"the images in {held} have not been imported yet; run `{importing}`."
        coco, folders = "it (train2017/, val2017/, annotations/)", "its images as train/<class>/ and test/<class>/"
        return (
            f"{self.title} is not in {root}; run `{command.format('fetch', '')}`, or, if you hold "
            f"{coco if self.layout == 'coco' else folders}, `{command.format('import', '--folder FOLDER ')}`."
        )

    def cure(self, root: Path) -> str:
        """Say what to do about official files in the data folder `root` that are damaged or incomplete."""
        return f"move the folder {root / self.folder} away and run `python -m cds_lib data fetch {self.name}`"


def md5_of(path: Path) -> str:
    """Return the md5 (hex) of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def entries() -> dict[str, DataSet]:
    """Return all known data sets by name, in the order of registry.toml. UsageError says how an entry is wrong."""
    with open(REGISTRY, "rb") as handle:
        tables = tomllib.load(handle)
    sets = {}
    for name, table in tables.items():
        try:
            for kind in table.keys() & {"archives", "files"}:
                table[kind] = tuple(PublishedFile(**row) for row in table[kind])
            sets[name] = DataSet(name, **table)
        except TypeError as error:  # names the fields that are missing or unknown
            raise UsageError(f"{REGISTRY.name}: the entry of {name!r} is not one ({error}).") from error
    return sets


def entry(name: str) -> DataSet:
    """Return the entry of one data set. Raises UsageError for an unknown name."""
    known = entries()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; known are: {', '.join(known)}.")
    return known[name]


def data_root(argument: str | os.PathLike[str] | None = None) -> Path:
    """Return the data folder: the argument, else the environment variable CDS_DATA_ROOT, else data/ of this checkout,
    wherever a notebook or a script is started."""
    return Path(os.path.expanduser(argument or os.environ.get("CDS_DATA_ROOT") or CHECKOUT / "data"))


@contextlib.contextmanager
def single_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the write lock of data set `name` in `root` (created if needed) during the block.

    Raises UsageError if another process holds it or the block cannot write.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{name}.lock") as owner:
            if owner is not None:
                raise UsageError(
                    f"{owner} is writing {name} in {root} right now; wait until it has finished, then try again."
                )
            yield
    except OSError as error:
        raise UsageError(
            f"cannot write in the data folder {root} ({error.strerror or error}), where what is decoded, fetched or "
            f"imported is kept; {cure(error)} or choose one of your own with --data-root."
        ) from error
