"""The commands `data list|fetch|verify|import`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.data.registry import DataSet, data_root, entries, entry

# NumPy, Pillow and the readers are imported by the commands that need them: `--help` answers at once.


def add_parser(subparsers: argparse._SubParsersAction, after_import: Callable[[DataSet, Path], None]) -> None:
    """Add the command `data` with its four subcommands; each sets `handler(args) -> exit code`.

    `after_import`: called with the set and the data folder once an import has succeeded.
    """
    parser = subparsers.add_parser("data", help="list, fetch, verify and import data sets")
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="list|fetch|verify|import")

    def command(name: str, handler: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what)
        added.set_defaults(handler=handler)
        if name != "list":
            added.add_argument("name", metavar="NAME")
        add_data_root(added.add_argument)
        return added

    command("list", list_sets, "what is known and what is there")
    fetching = command("fetch", fetch_set, "download, check and unpack a data set (resumes)")
    fetching.add_argument("--offline", action="store_true", help="never use the network (as CDS_OFFLINE=1)")
    command("verify", verify_set, "check a data set; exit code 1 if anything is not as published")
    importing = command("import", partial(import_set, after_import), "take in images you hold as folders")
    where = "holds train/<class>/ and test/<class>/ (or val/<class>/)"
    importing.add_argument("--folder", metavar="DIR", required=True, help=where)


def add_data_root(add_argument: Callable) -> None:
    """Add the option that names the data folder; `data_root` turns it into a path."""
    where = "where data sets lie (default: $CDS_DATA_ROOT, else data/ of the checkout)"
    add_argument("--data-root", default="", metavar="DIR", help=where)


def list_sets(args: argparse.Namespace) -> int:
    """`data list`: print a table of all known sets and how much of each is there."""
    root = data_root(args.data_root)
    rows = [("name", "classes", "train", "test", "state", "where")]
    for known in entries().values():
        state, where = data_state(known, root)
        rows.append((known.name, str(known.classes), str(known.train), str(known.test), state, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        f"\nData folder: {root}. To get a set: `python -m cds_lib data fetch NAME` or `data import NAME --folder DIR`."
    )
    return 0


def fetch_set(args: argparse.Namespace) -> int:
    """`data fetch NAME`: return 0 when the official files are in place, else raise UsageError."""
    from cds_lib.study.data.fetch import fetch

    print(fetch(entry(args.name), data_root(args.data_root), offline=args.offline))
    return 0


def verify_set(args: argparse.Namespace) -> int:
    """`data verify NAME`: decode every image, print faults; return 0 if all is as published or imported, else 1."""
    from cds_lib.study.data import coco, image_files, sets

    known, root = entry(args.name), data_root(args.data_root)
    faults = [*known.unpublished(root).values()] if known.is_official(root) else []
    try:
        data = sets.load_real(known, root)
    except UsageError as error:
        faults.append(str(error))
        summary = "cannot be used"
    else:
        of = data.provenance
        if known.layout == "coco":
            faults += coco.faults(data)
        elif known.image_size is None:
            faults += image_files.broken_images([*data.train_images, *data.test_images])
        if not of["complete"]:
            faults.append(f"{of['train']} of {known.train} training and {of['test']} of {known.test} test images")
        usable = "usable, but not as published" if faults else "OK"
        summary = f"{usable}: {of['note']} (sha256 of the images and labels {of['sha256']})"
    print(*(f"- {fault}" for fault in faults), f"{known.title}: {summary}", sep="\n")
    return 1 if faults else 0


def import_set(after_import: Callable[[DataSet, Path], None], args: argparse.Namespace) -> int:
    """`data import NAME --folder DIR`: return 0 when all images are stored or listed, else raise UsageError."""
    from cds_lib.study.data.folders import import_folder

    known, root = entry(args.name), data_root(args.data_root)
    print(f"{known.title}: decoding the images in {args.folder} ...", file=sys.stderr)
    info = import_folder(known, Path(args.folder), root)
    extent = "complete" if info["complete"] else "a SUBSET"
    print(
        f"{known.title}: {extent}, {len(info['class_names'])} of {known.classes} classes, "
        f"{info['train']} of {known.train} training and {info['test']} of {known.test} test images, "
        f"in {known.imported(root)}"
    )
    if known.is_official(root) and Path(args.folder).resolve() != (root / known.folder).resolve():
        print(f"The official files in {root / known.folder} come first: the import is not used while they are there.")
    after_import(known, root)
    return 0


def data_state(known: DataSet, root: Path) -> tuple[str, str]:
    """Return in words how much of a set is there and whether it is verified, and its folder ("-" if there is none)."""
    there, held = known.held_at(root), root / known.name
    if not there:
        return ("folders, not imported", str(held)) if (held / "train").is_dir() else ("not there", "-")
    from cds_lib.study.data import sets

    try:
        of = sets.load_real(known, root).provenance
    except UsageError:
        return f"BROKEN (data verify {known.name})", str(there[0])
    extent = "complete" if of["complete"] else f"subset ({of['train']} + {of['test']})"
    return f"{extent}, {'verified' if of['verified'] else 'not verified'}", str(there[0])
