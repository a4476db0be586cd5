"""One run on several processes, which torchrun starts.

They are new ones, never forks of one that may hold a GPU. Each is this file as a program, and is connected with the
process that launched it: it is told what to train and says how that went. It connects before it imports anything slow,
so that it ends at once, whatever it is doing, when the launcher has gone.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cds_lib.study.engines import gpus
from cds_lib.study.errors import RunError
from cds_lib.study.processes import begin, environment
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store

_ONE_OF_THEM = "cds_lib.study.engines.launch"  # this file
_SECONDS_TO_END = 10.0
# How a process may end badly, the most telling first: with a sentence of its own, without a word, or because it missed
# another one.
_BAD_ENDS = ("failed", "died", "lost")


@dataclass(frozen=True)
class Resources:
    """The resources of one run, on any engine. It decides speed, and no result is looked up by it.

    processes: that the run is spread over, a GPU each where there are GPUs; threads: that each of them computes on, 0
    for as many as they have; workers: processes that decode images, for each of them; gpus: names for
    CUDA_VISIBLE_DEVICES, None for those that this process sees; compile_method: torch.compile the training step, of a
    run on one process.
    """

    processes: int = 1
    threads: int = 0
    workers: int = 0
    gpus: str | None = None
    compile_method: bool = False


def train(
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources,
    on_progress: Callable[[float], None],
) -> dict[str, float]:
    """Train a run on several new processes and return its metrics; they do not compile. See `execute`.

    Raises:
        UsageError: fewer GPUs than processes. RunError: the training failed, or one of its processes was killed; the
            others are ended then.
    """
    processes = resources.processes
    device = "cuda" if gpus.check(processes) else "cpu"
    orders = {
        "spec": spec.to_dict(),
        "results": str(store.root.absolute()),
        "data_root": str(data_root),
        "device": device,
        "threads": resources.threads or 1,
        "workers": resources.workers,
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
        [
            "/bin/sh",
            "-c",
            "trap '' USR1 USR2; exec \"$@\"",
            "sh",
            *torchrun,
            "-m",
            "cds_lib.study.engines.launch",
            address,
        ],
        env=environment() | {"OMP_NUM_THREADS": str(resources.threads or 1)},
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


def main(address: str) -> int:
    """One of the processes: say one's rank, be told what to train; then say ("progress", epochs) and how it ended.

    Returns the exit code. An end is ("done", None), ("failed", sentence), or ("lost", sentence) if it is another
    process that has failed.
    """
    news = connection.Client(address, family="AF_UNIX")
    news.send(("rank", int(os.environ["RANK"])))
    orders = news.recv()
    threading.Thread(target=_end_with_the_launcher, args=[news], daemon=True).start()
    begin()
    news.send(end := _train(orders, news))
    return 0 if end[0] == "done" else 1


def _train(orders: dict[str, Any], news: connection.Connection) -> tuple[str, str | None]:

    from cds_lib.errors import TrainingError, UsageError
    from cds_lib.study.engines.execute import execute
    from cds_lib.training import distributed

    try:
        with distributed.joined(orders["device"]) as (group, device):
            execute(
                RunSpec.from_dict(orders["spec"]),
                Store(orders["results"]),
                Path(orders["data_root"]),
                Resources(threads=orders["threads"], workers=orders["workers"]),
                lambda epochs: news.send(("progress", epochs)) if group.first else None,
                device=device,
                group=group,
            )
    except Exception as error:
        traceback.print_exc()
        sentence = str(error) if isinstance(error, UsageError | TrainingError) else f"{type(error).__name__}: {error}"
        return "lost" if distributed.missed_another(error.__cause__ or error) else "failed", sentence
    return "done", None


def _end_with_the_launcher(news: connection.Connection) -> None:
    try:
        news.recv()  # nothing more is ever sent
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
