"""What runs in each of several processes that train one run; `launch.py` has torchrun start it.

It connects before it imports anything slow, so that it ends at once, whatever it is doing, when the launcher has gone.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cds_lib.study import processes


def main(address: str) -> int:
    """Say one's rank, be told what to train; then say ("progress", epochs) and how it ended; the exit code.

    An end is ("done", None), ("failed", sentence), or ("lost", sentence) if it is another process that has failed.
    """
    news = connection.Client(address, family="AF_UNIX")
    news.send(("rank", int(os.environ["RANK"])))
    orders = news.recv()
    threading.Thread(target=_end_with_the_launcher, args=[news], daemon=True).start()
    processes.begin()
    news.send(end := _train(orders, news))
    return 0 if end[0] == "done" else 1


def _train(orders: dict[str, Any], news: connection.Connection) -> tuple[str, str | None]:
    import torch

    from cds_lib.errors import TrainingError, UsageError
    from cds_lib.study.engines.execute import execute
    from cds_lib.study.spec import RunSpec
    from cds_lib.study.store import Store
    from cds_lib.training import distributed

    torch.set_num_threads(orders["threads"])
    try:
        with distributed.joined(orders["device"]) as (group, device):
            execute(
                RunSpec.from_dict(orders["spec"]),
                Store(orders["results"]),
                Path(orders["data_root"]),
                device=device,
                workers=orders["workers"],
                on_progress=lambda epochs: news.send(("progress", epochs)) if group.first else None,
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
