"""Durations, counts and lists in words."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Format seconds: 17 s, 4 min 10 s, 3 h 20 min."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(number: int, noun: str) -> str:
    """Format a count with its noun: 1 run, 2 runs, 3 analyses."""
    plural = f"{noun.removesuffix('is')}es" if noun.endswith("is") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def listed(names: Sequence[str]) -> str:
    """Join names: a; a and b; a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
