"""How numbers are printed. They stay numeric in the csv; everything here is for reading."""

import math
from typing import Any

import pandas as pd

EMPTY = "–"
_NOTHING = 1e-9  # what is smaller is 0 but for rounding


def text(value: Any, form: str = "{:.2f}") -> str:
    """Any value of a table: a float as `form` says, with a real minus sign; `yes`, `no`; what is missing is EMPTY."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if pd.isna(value):
        return EMPTY
    return form.format(value).replace("-", "−") if isinstance(value, float) else str(value)


def number(value: float, decimals: int = 2) -> str:
    """`77.18`, `−0.50`; what is not 0 has as many decimals as it takes to show: `0.004`."""
    size = abs(value)
    if size < _NOTHING:
        value = 0.0
    elif float(f"{size:.{decimals}f}") == 0:
        decimals = math.ceil(-math.log10(size))
    return text(float(value), f"{{:.{decimals}f}}")


def signed(value: float, decimals: int = 2) -> str:
    """`+1.25`, `−0.50`, `0.00` without a sign; decimals as in `number`."""
    return f"{'+' if value >= _NOTHING else ''}{number(value, decimals)}"


def mean_std_n(mean: float, std: float, n: int, n_planned: int | None = None, decimals: int = 2) -> str:
    """`77.18 ± 0.12 (5)`; `77.18 (1)` without a deviation; `(3 of 5)` while runs are missing; `not run`."""
    if n == 0:
        return "not run"
    count = f"{n} of {n_planned}" if n_planned is not None and n < n_planned else f"{n}"
    deviation = "" if pd.isna(std) else f" ± {number(std, decimals)}"
    return f"{number(mean, decimals)}{deviation} ({count})"


def difference(delta: float, low: float, high: float, decimals: int = 2) -> str:
    """`+1.25 [+0.50, +2.00]`; without the interval where there are too few seeds for one."""
    if pd.isna(delta):
        return EMPTY
    interval = "" if pd.isna(low) else f" [{signed(low, decimals)}, {signed(high, decimals)}]"
    return signed(delta, decimals) + interval
