"""What runs inside the process of one run: the training, whose output goes to the run's log.

A process of the local engine also reports its progress, and how it ended, through a pipe.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cds_lib.errors import TrainingError, UsageError
from cds_lib.files import refuse_no_file
from cds_lib.study.engines import provenance
from cds_lib.study.engines.launch import train
from cds_lib.study.engines.resources import Resources
from cds_lib.study.errors import system_error
from cds_lib.study.processes import begin_as_child
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store

provenance.code_version()  # that of the code which is being imported: a checkout may change while the runs are trained


def train_logged(
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources,
    on_progress: Callable[[float], None] = lambda epochs: None,
) -> dict[str, float]:
    """Train one run, as every engine does, and return its metrics; see `cds_lib.study.engines.launch.train`."""
    torch.set_num_threads(resources.threads)
    send_output_to(store.run_dir(spec.id) / "log.txt")
    return train(spec, store, data_root, resources, on_progress)


def work(spec: dict[str, Any], results: str, data_root: str, resources: Resources, news: Any) -> None:
    """Train one run; send ("progress", epochs), then ("done", metrics) or ("failed", sentence)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    begin_as_child()
    if resources.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = resources.gpus
    try:
        metrics = train_logged(
            RunSpec.from_dict(spec),
            Store(results),
            Path(data_root),
            resources,
            on_progress=lambda epochs: news.send(("progress", epochs)),
        )
        news.send(("done", metrics))
    except (UsageError, TrainingError) as error:
        traceback.print_exc()
        news.send(("failed", str(error)))
    except OSError as error:
        news.send(("failed", system_error(error)))


def send_output_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_no_file(path)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
