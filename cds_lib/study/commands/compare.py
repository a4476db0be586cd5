"""The command `compare`: somebody's results beside the committed ones, cell by cell."""

from __future__ import annotations

import argparse
from pathlib import Path

from cds_lib.study.plan import protocols
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES, find_table


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command; it sets `handler(options) -> exit code`."""
    parser = subparsers.add_parser(
        "compare", help="set the results of another folder beside the committed ones", allow_abbrev=False
    )
    parser.add_argument("folder", metavar="DIR", help="a results folder: DIR/runs/<id>")
    known = "|".join(protocols.PROFILES)
    parser.add_argument("--profile", default="mini", metavar=known, help="of both folders (default: mini)")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these tables only")
    parser.add_argument("--seeds", default="", metavar="0,1,2", help="seeds of DIR (default: the profile's)")
    parser.add_argument("--results", default="", metavar="DIR", help="compared with (default: results/<profile>)")
    parser.set_defaults(handler=compare)


def compare(options: argparse.Namespace) -> int:
    """`compare DIR`: 0 every run of the cells is whole, on the same images as ours and of a commit; 1 some are not.

    Raises:
        UsageError: an unknown name, no results. RunError: a run is damaged, or its numbers contradict one another.
    """
    from cds_lib.study.report.elsewhere import compared  # imports pandas

    tables = [find_table(name) for name in options.only.split(",")] if options.only else list(TABLES.values())
    ours = Store(results_dir(options.profile, options.results))
    theirs = Store(Path(options.folder).expanduser())
    found = compared(tables, options.profile, protocols.parse_seeds(options.seeds), ours, theirs)
    shown = found.drop(columns=["images", "uncommitted"])
    print(shown.to_string(index=False, float_format="{:.2f}".format, na_rep="–"))
    print(
        f"inside: {(found['inside'] == 'yes').sum()}, outside: {(found['inside'] == 'no').sum()}, not tested: "
        f"{(found['inside'] == '').sum()} of {len(found)} cells"
    )
    if (other := found.loc[found["images"] == "other", ["dataset"]].drop_duplicates()).size:
        print(f"other images than ours: {', '.join(other['dataset'])}")
    if uncommitted := sorted({run for runs in found["uncommitted"] for run in runs}):
        print(f"trained with code of no commit: {', '.join(uncommitted)}")
    return 1 if other.size or uncommitted else 0
