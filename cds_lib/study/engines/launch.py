"""One run on several processes of this machine, connected by torch.distributed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path

from cds_lib.study.engines import gpus, provenance
from cds_lib.study.errors import RunError
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.processes import Worker, fork_server, kill
from cds_lib.study.store import Store

_HERE = "127.0.0.1"  # the host name may not resolve to this machine
_SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Resources:
    """What one run is computed with, on any engine. This decides its speed, and is not part of its id.

    processes: how many train the run together, one GPU each if there are GPUs. threads: of each process, 0 for
    PyTorch's default. workers: image-decoding processes of each process. compile_method: torch.compile the training
    step of a run on one process.
    """

    processes: int = 1
    threads: int = 0
    workers: int = 0
    compile_method: bool = False


def on_several(
    execute: Callable[..., dict[str, float]],
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources,
    on_progress: Callable[[float], None],
) -> dict[str, float]:
    """Train a run in several new processes, each of which calls `execute` without compiling, and return its metrics.
    UsageError: fewer GPUs than processes. RunError: the training failed or one of its processes was killed; the others
    are then ended."""
    from torch.distributed import TCPStore  # slow

    count = resources.processes
    device = "cuda" if gpus.check(count) else "cpu"
    each = replace(resources, processes=1, threads=resources.threads or 1, compile_method=False)
    meeting = TCPStore(_HERE, 0, is_master=True, wait_for_workers=False)
    # The last variable says that this process keeps the store, as torchrun's agent does, so no port has to be guessed.
    variables = {"MASTER_ADDR": _HERE, "MASTER_PORT": str(meeting.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    context = fork_server(["cds_lib.study.engines.execute"])
    workers: dict[Worker, int] = {}  # worker -> rank
    try:
        for rank in range(count):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            worker = Worker(context, _train, execute, spec, store, data_root, each, device, variables=variables | place)
            workers[worker] = rank
        bad = _bad_end(workers, on_progress)
    finally:
        kill(workers)
    if store.is_trained(spec.id):
        return store.metrics(spec.id)  # whatever happened to a process afterwards
    if store.status(spec.id).get("state") != "running":  # else another command is training this run
        store.write_status(spec.id, state="failed", error=bad, finished=provenance.now(), processes=count)
    raise RunError(bad)


def _bad_end(workers: dict[Worker, int], on_progress: Callable[[float], None]) -> str:
    """Listen until all processes have ended; return the most telling reason of a failure, empty if there is none.

    After a failure, the other processes, which may wait for the failed one, get some seconds to end.
    """
    ends: list[tuple[int, str]] = []
    going, latest = set(workers), math.inf
    while going and time.monotonic() < latest:
        for worker in connection.wait(going, timeout=0.2):
            kind, value = worker.hear()
            if kind == "progress":
                on_progress(value)
                continue
            going.discard(worker)
            if kind == "failed":
                ends.append((0, value))
            elif kind == "died":
                who = f"Process {workers[worker]} of the training"
                ends.append((1, f"{who} died, perhaps out of memory: see its log.txt."))
            elif value:
                ends.append((2, value))
            if ends:
                latest = min(latest, time.monotonic() + _SECONDS_TO_END)
    return min(ends, default=(0, ""))[1]


def _train(
    say: Callable[[float], None],
    execute: Callable[..., dict[str, float]],
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources,
    device_type: str,
) -> str:
    """Run one of the processes. Return why it could not go on if another process has ended, else an empty text."""
    from cds_lib.training import distributed

    try:
        with distributed.joined(device_type) as (group, device):
            report = say if group.first else (lambda epochs: None)
            execute(spec, store, data_root, resources, report, device=device, group=group)
    except Exception as error:
        if distributed.missed_another(error.__cause__ or error):
            return str(error)
        raise
    return ""
