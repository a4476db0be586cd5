"""How numbers are printed in tables and pages; csv files hold them unrounded."""

import math
from typing import Any

import pandas as pd

EMPTY = "–"
_NOTHING = 1e-9  # smaller values are 0 up to rounding errors


def text(value: Any, form: str) -> str:
    """Format any value of a table: a float with `form` and a real minus sign; `yes`, `no`; EMPTY if it is missing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if pd.isna(value):
        return EMPTY
    return form.format(value).replace("-", "−") if isinstance(value, float) else str(value)


def number(value: float, decimals: int = 2) -> str:
    """Format as `77.18` or `−0.50`. A nonzero value that would be printed as 0 gets more decimals: `0.004`."""
    size = abs(value)
    if size < _NOTHING:
        value = 0.0
    elif float(f"{size:.{decimals}f}") == 0:
        decimals = math.ceil(-math.log10(size))
    return text(float(value), f"{{:.{decimals}f}}")


def signed(value: float, decimals: int) -> str:
    """Format as `+1.25` or `−0.50`, and `0.00` without a sign; decimals as in `number`."""
    return f"{'+' if value >= _NOTHING else ''}{number(value, decimals)}"


def mean_std_n(mean: float, std: float, n: int, n_planned: int, decimals: int) -> str:
    """Format as `77.18 ± 0.12 (5)`; `77.18 (1)` without a deviation; `(3 of 5)` while runs are missing; `not run`."""
    if n == 0:
        return "not run"
    count = f"{n} of {n_planned}" if n < n_planned else f"{n}"
    deviation = "" if pd.isna(std) else f" ± {number(std, decimals)}"
    return f"{number(mean, decimals)}{deviation} ({count})"


def difference(delta: float, low: float, high: float, decimals: int) -> str:
    """Format as `+1.25 [+0.50, +2.00]`, without the interval if there are too few seeds for one."""
    if pd.isna(delta):
        return EMPTY
    interval = "" if pd.isna(low) else f" [{signed(low, decimals)}, {signed(high, decimals)}]"
    return signed(delta, decimals) + interval
