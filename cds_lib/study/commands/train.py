"""The command `train`: one run of one's own, beside the study's."""

from __future__ import annotations

import argparse

from cds_lib.study.commands import own
from cds_lib.study.data.registry import data_root
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.plan import protocols
from cds_lib.study.store import Store, results_dir


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
