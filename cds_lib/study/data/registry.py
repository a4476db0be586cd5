"""Facts about each data set (registry.toml), where data sets lie, and who writes there. Imports no torch or NumPy."""

import contextlib
import hashlib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import cure
from cds_lib.study.files import locked

REGISTRY = Path(__file__).with_name("registry.toml")


@dataclass(frozen=True)
class Archive:
    """A published archive or loose file: its name, md5 (hex), urls in the order they are tried (none: it must be put
    there by hand), and the folder below the data folder that it is unpacked into."""

    file: str
    md5: str
    urls: tuple[str, ...] = ()
    into: str = ""


@dataclass(frozen=True)
class PublishedFile:
    """A file inside the official folder: relative path, its part (train, test or meta), published md5 (hex)."""

    path: str
    part: str
    md5: str


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
    archives: tuple[Archive, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    image_size: int | None = None

    def is_official(self, root: Path) -> bool:
        """Whether the data folder `root` holds the set in its published layout, if that is one that is read here."""
        return bool(self.layout) and (root / self.folder / self.marker).exists()

    def imported(self, root: Path) -> Path:
        """Where in the data folder `root` the imported arrays, or the listing, lie."""
        return root / "imported" / self.name

    def held_at(self, root: Path) -> list[Path]:
        """Where the set lies, as published or imported; empty if it is not there."""
        official, imported = root / self.folder, self.imported(root)
        return [official] * self.is_official(root) + [imported] * imported.is_dir()

    def part(self, part: str) -> tuple[PublishedFile, ...]:
        """The published files of one part (`train`, `test` or `meta`), in the order they are read."""
        return tuple(file for file in self.files if file.part == part)

    def unpublished(self, root: Path) -> tuple[str, ...]:
        """Those of `files` that are not in the data folder `root` with their published md5."""
        found = ((file, root / self.folder / file.path) for file in self.files)
        return tuple(file.path for file, path in found if not path.is_file() or md5_of(path) != file.md5)

    def missing(self, root: Path) -> str:
        """One sentence that says that the set is not in the data folder `root` and what to run."""
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
        """What to do about official files in the data folder `root` that are damaged or incomplete."""
        return f"move the folder {root / self.folder} away and run `python -m cds_lib data fetch {self.name}`"


def md5_of(path: Path) -> str:
    """md5 (hex) of a file, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def entries() -> dict[str, DataSet]:
    """All known data sets by name, in the order of registry.toml. UsageError says what is wrong with an entry."""
    with open(REGISTRY, "rb") as handle:
        tables = tomllib.load(handle)
    sets = {}
    for name, table in tables.items():
        try:
            archives = tuple(Archive(**one | {"urls": tuple(one.get("urls", ()))}) for one in table.pop("archives", ()))
            files = tuple(PublishedFile(**file) for file in table.pop("files", ()))
            sets[name] = DataSet(name, archives=archives, files=files, **table)
        except TypeError as error:  # names the fields that are missing or unknown
            raise UsageError(f"{REGISTRY.name}: the entry of {name!r} is not one ({error}).") from error
        if sets[name].image_size and sets[name].layout not in ("", "cifar-batches"):
            raise UsageError(
                f"{REGISTRY.name}: {name!r} has an image_size, so its layout must be 'cifar-batches' or none."
            )
    return sets


def entry(name: str) -> DataSet:
    """The entry of one data set. Raises UsageError for an unknown name."""
    known = entries()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; known are: {', '.join(known)}.")
    return known[name]


def data_root(argument: str | os.PathLike[str] | None = None) -> Path:
    """The folder the data sets lie in: the argument, else the environment variable CDS_DATA_ROOT, else data/ of this
    checkout, wherever a notebook or a script is started."""
    return Path(os.path.expanduser(argument or os.environ.get("CDS_DATA_ROOT") or CHECKOUT / "data"))


@contextlib.contextmanager
def single_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the write lock of data set `name` in `root` (made if needed) for the length of the block.

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
