"""Keep the weights of finished runs with committed results: `python scripts/keep_weights.py RESULTS TO RUN_ID ...`.

RESULTS is the folder where the runs were trained. TO, such as results/mini/weights, gets a file per run and SHA256SUMS.
"""

import sys
from pathlib import Path

from cds_lib.study.engines.setup import keep_weights, trained_weights
from cds_lib.study.store import Store

results, to, *runs = sys.argv[1:]
store = Store(results)
for run in runs:
    spec = store.spec(run)
    keep_weights(Path(to), spec, trained_weights(spec, store), store.status(run)["weights"])
