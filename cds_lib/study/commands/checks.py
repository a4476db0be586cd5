"""The commands `compare` (cell by cell) and `reproduce` (to the last digit): checks against committed results."""

import argparse
import sys
import tempfile
from pathlib import Path

from cds_lib.errors import TrainingError, UsageError
from cds_lib.study.data.registry import data_root
from cds_lib.study.engines import reproduce as engine
from cds_lib.study.plan import protocols
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES, find_table
from cds_lib.study.text import counted


def compare(options: argparse.Namespace) -> int:
    """`compare DIR`: return 0 if no run used other images than ours or uncommitted code, otherwise 1.
    UsageError: an unknown name, no results. RunError: a run is damaged or incomplete, or contradicts itself."""
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


def reproduce(options: argparse.Namespace) -> int:
    """`reproduce RUN_ID`: return 0 if identical to the last digit, else 1. UsageError: the run cannot be checked."""
    epochs = None if options.epochs == "all" else int(options.epochs) if options.epochs.isdecimal() else 0
    if epochs == 0:
        raise UsageError(f"--epochs must be a whole number, 1 or more, or all, not {options.epochs!r}.")
    store = Store(results_dir("mini", options.results))
    run_id = Path(options.run).name  # a path to the folder, as completed by Tab, also works
    with tempfile.TemporaryDirectory(prefix="cds-") as folder:
        try:
            outcomes = engine.reproduce(
                run_id,
                store,
                data_root(options.data_root),
                Path(folder),
                epochs,
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
        except TrainingError as error:  # a damaged file, not a difference of numbers
            raise UsageError(str(error)) from error
    spec = store.spec(run_id)
    compared = counted(min(epochs or spec.budget.epochs, spec.budget.epochs), "epoch")
    for outcome in outcomes:
        how = "not identical" if outcome.differences else "identical to the last digit"
        print(f"Run {run_id} ({spec.label}), {compared}, kernels for {outcome.kernels.name}: {how}")
        for difference in outcome.differences:
            print(f"  {difference}")
    return 1 if outcomes[-1].differences else 0
