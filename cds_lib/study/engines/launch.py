"""One run from its spec to its results, on one process or spread over several that torchrun starts.

The processes (`rank.py`) are new ones, never forks of one that may hold a GPU. Each is connected with the one that
launched them: it is told what to train and says how that went.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cds_lib.study.engines import gpus
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.resources import Resources
from cds_lib.study.errors import RunError
from cds_lib.study.processes import environment
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store

_RANK = "cds_lib.study.engines.rank"

_SECONDS_TO_END = 10.0
# How a process may end badly, the most telling first: with a sentence of its own, without a word, or because it missed
# another one.
_BAD_ENDS = ("failed", "died", "lost")


def train(
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources,
    on_progress: Callable[[float], None] = lambda epochs: None,
) -> dict[str, float]:
    """Train a run, or finish it if it was interrupted, and return its metrics; see `execute`.

    On one process it is this one, with the threads and GPUs that it has; several new ones have threads as `resources`
    says, and do not compile.

    Raises:
        UsageError: fewer GPUs than processes, and what `execute` raises. RunError: the training failed, or one of its
            processes was killed; the others are ended then.
    """
    workers, processes = resources.workers, resources.processes
    if processes == 1:
        how = {"compile_method": resources.compile_method, "workers": workers, "on_progress": on_progress}
        return execute(spec, store, data_root, **how)
    if store.is_trained(spec.id):
        return store.metrics(spec.id)
    device = "cuda" if gpus.check(processes) else "cpu"
    orders = {
        "spec": spec.to_dict(),
        "results": str(store.root.absolute()),
        "data_root": str(data_root),
        "device": device,
        "threads": resources.threads,
        "workers": workers,
    }
    with tempfile.TemporaryDirectory(prefix="cds-") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(address := os.path.join(folder, "news"))
        server.listen(processes)
        agent = _start(resources, address)
        try:
            ends = _listen(server, agent, orders, on_progress)
        finally:
            _stop(agent)
    if store.is_trained(spec.id):
        return store.metrics(spec.id)  # whatever became of a process afterwards
    if bad := sorted((end for end in ends if end[0] in _BAD_ENDS), key=lambda end: _BAD_ENDS.index(end[0])):
        sentence = bad[0][1]
    else:
        sentence = f"The {processes} processes of the training could not be started: see its log.txt."
    if store.status(spec.id).get("state") != "running":  # else it is another command that trains this run
        now = datetime.now(UTC).isoformat(timespec="seconds")
        store.write_status(spec.id, state="failed", error=sentence, finished=now, processes=processes)
    raise RunError(sentence)


def _start(resources: Resources, address: str) -> subprocess.Popen:
    # All are on this machine, whose name need not lead to it: torchrun would ask for it for ten minutes.
    nodes = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={resources.processes}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *nodes]
    return subprocess.Popen(
        # Slurm warns all processes of a job of its end with such a signal, which is for the launcher alone.
        ["/bin/sh", "-c", "trap '' USR1 USR2; exec \"$@\"", "sh", *torchrun, "-m", _RANK, address],
        env=environment() | {"OMP_NUM_THREADS": str(resources.threads)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the whole group; the parent decides
    )


def _listen(
    server: socket.socket, agent: subprocess.Popen, orders: dict[str, Any], on_progress: Callable[[float], None]
) -> list[tuple[str, Any]]:
    """Give orders to the processes and hear of them until all have ended: how each did, in the order it was heard.

    When one has ended badly, the others are waited for some seconds: they may wait for it, and older PyTorch for ever.
    """
    talking: dict[connection.Connection, str] = {}  # and who it is
    ends: list[tuple[str, Any]] = []
    ended: set[connection.Connection] = set()
    latest = math.inf
    while (agent.poll() is None or talking) and time.monotonic() < latest:
        if latest == math.inf and any(kind in _BAD_ENDS for kind, _ in ends):
            latest = time.monotonic() + _SECONDS_TO_END
        for ready in connection.wait([server, *talking], timeout=0.2):
            if ready is server:
                talking[connection.Connection(server.accept()[0].detach())] = "A process"
                continue
            try:
                kind, value = ready.recv()
                if kind == "rank":
                    ready.send(orders)
            except (EOFError, OSError):
                who = talking.pop(ready)
                if ready not in ended:
                    ends.append(("died", f"{who} of the training died, perhaps for want of memory: see its log.txt."))
                continue
            if kind == "rank":
                talking[ready] = f"Process {value}"
            elif kind == "progress":
                on_progress(value)
            else:
                ended.add(ready)
                ends.append((kind, value))
    return ends


def _stop(agent: subprocess.Popen) -> None:
    """End the processes and the agent that started them, if they have not ended by themselves."""
    if agent.poll() is None:
        agent.terminate()  # it ends its processes
    try:
        agent.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
