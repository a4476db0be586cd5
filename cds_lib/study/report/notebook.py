"""Changes that the study makes to the notebook that it is used in."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.errors import RunError


def in_one_line() -> None:
    """From now on, what a user has caused is one line in this notebook and no traceback: an error of the study, or an
    interrupt, also of a loop of their own. Nothing where no notebook runs."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UsageError, RunError, KeyboardInterrupt), _show)


def _show(
    shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
) -> list[str]:
    line = f"{kind.__name__}: {error}".removesuffix(": ")
    shell._showtraceback(kind, error, [line])  # no public function of IPython shows a text as a cell's error
    return [line]
