"""How methods, networks, data sets and settings are called for people; files and commands have short names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from cds_lib.study.catalogue import DATASETS, METHODS, NETWORKS, SETTINGS
from cds_lib.study.tables import TABLES


@cache
def _names() -> dict[str, str]:
    """Short name -> name for people: what tables call their rows and settings, and the catalogue."""
    own = {short: name for table in TABLES.values() for short, name in table.names.items()}
    return own | SETTINGS | {short: entry.title for short, entry in (DATASETS | NETWORKS | METHODS).items()}


def name_of(name: str) -> str:
    """Of a row, a data set, a network or a setting: `CIFAR-100`, `ResNet-18`, `10 % labelled`; another is its own."""
    return _names().get(name, name)


method_name = name_of


def group_title(names: Iterable[str]) -> str:
    """The heading of a group of rows: `CIFAR-100, ResNet-18, 10 % labelled`."""
    return ", ".join(name_of(str(name)) for name in names)
