"""The command `train`: one run of one's own, beside the study's."""

from __future__ import annotations

import argparse

from cds_lib.study.commands import own
from cds_lib.study.data.cli import add_data_root
from cds_lib.study.data.registry import data_root
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.plan import protocols
from cds_lib.study.store import Store, results_dir


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command; it sets `handler(options) -> exit code`."""
    parser = subparsers.add_parser(
        "train", help="train one run of your own and show it beside the study's", allow_abbrev=False
    )
    for name, what in (("dataset", "data set"), ("model", "network"), ("method", "method")):
        parser.add_argument(f"--{name}", required=True, metavar="NAME", help=f"a {what} of run-all --list")
    known = "|".join(protocols.PROFILES)
    parser.add_argument("--profile", default="smoke", metavar=known, help="the budget (default: smoke)")
    parser.add_argument("--setting", default="", metavar="NAME", help="of run-all --list; default: the first that fits")
    what = "an option of the method or the budget (repeatable)"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=what)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--results", default="", metavar="DIR", help="results folder (default: results/mine)")
    add_data_root(parser)
    parser.set_defaults(handler=train)


def train(options: argparse.Namespace) -> int:
    """`train`: 0 when the run is finished.

    Raises:
        UsageError: unknown names or options, no data. RunError: the training failed.
    """
    import pandas as pd

    profile, (seed,) = options.profile, protocols.parse_seeds(str(options.seed))
    table, cell = own.find(profile, options.dataset, options.model, options.method, options.setting)
    store = Store(results_dir(profile, options.results).absolute()) if options.results else own.own_store()
    root = data_root(options.data_root or None).absolute()
    mine = own.train(table, cell, profile, seed, own.parse(options.set), store, root, LocalEngine())
    theirs = own.beside(table, cell, profile, seed, Store(results_dir(profile)))
    shown = pd.concat([mine, theirs])[["method", "value", "best", "seconds", "run"]]
    print(f"Seed {seed}, {cell.metric}; yours first, which is in {store.run_dir(mine['run'].iloc[0])}:")
    print(shown.to_string(index=False, float_format="{:.2f}".format))
    return 0
