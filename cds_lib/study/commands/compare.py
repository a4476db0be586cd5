"""The command `compare`: somebody's results beside the committed ones, cell by cell."""

from __future__ import annotations

import argparse
from pathlib import Path

from cds_lib.study.plan import protocols
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES, find_table


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
