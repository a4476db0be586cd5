"""What processes need of the system: to end with the one that started them, and files enough."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from multiprocessing import connection, parent_process

_FILES = 65_536  # more than the images that any number of workers has on its way


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


def allow_many_files() -> None:
    """Let this process have as many files open as the system lets it; often it begins with 1,024 of many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system may refuse what it names as its limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
