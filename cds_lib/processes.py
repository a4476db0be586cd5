"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import os
import threading
from multiprocessing import connection, parent_process


def die_with_the_parent(_worker_id: int = 0) -> None:
    """End this process when its parent is gone: killed, it must not leave work behind that nobody waits for.

    A fork server stands between the two, so the process's parent, as the system knows it, stays. The argument is
    there for DataLoader, which gives it to the `worker_init_fn` of its workers.
    """
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
