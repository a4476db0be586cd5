"""Display names of methods, networks, data sets and settings; files and commands use short names."""

from collections.abc import Iterable
from functools import cache

import pandas as pd

from cds_lib.study.measures import short_name
from cds_lib.study.plan import published
from cds_lib.study.plan.catalogue import DATASETS, METHODS, NETWORKS, SETTINGS
from cds_lib.study.tables import TABLES


@cache
def _names() -> dict[str, str]:
    """Short name -> display name, from the tables and the catalogue."""
    own = {short: name for table in TABLES.values() for short, name in table.names.items()}
    own |= {short: table.title for short, table in TABLES.items()}
    return own | SETTINGS | {short: entry.title for short, entry in (DATASETS | NETWORKS | METHODS).items()}


def name_of(name: str) -> str:
    """Return the display name of a row, data set, network, setting or table: `CIFAR-100`, `10 % labelled`. An unknown
    name is returned unchanged."""
    return _names().get(name, name)


def group_title(names: Iterable[str]) -> str:
    """Return the heading of a group of rows: `CIFAR-100, ResNet-18, 10 % labelled`."""
    return ", ".join(name_of(str(name)) for name in names)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with display names in dataset, model, method, metric and similar columns. These columns become
    ordered categories, so that a table or plot keeps the order of the rows."""
    namers = dict.fromkeys(
        ("dataset", "model", "student", "teacher", "method", "setting", "against", "reference"), name_of
    )
    namers |= {"metric": short_name, "claimed_in": name_of}
    found = frame.copy()
    for column in [column for column in frame if column in namers and frame[column].dtype != "category"]:
        names = {value: namers[column](value) for value in frame[column].unique()}
        found[column] = pd.Categorical(frame[column].map(names), list(dict.fromkeys(names.values())), ordered=True)
    return found


# Heading on the poster -> what it measures.
_MEASURED = {
    **{"top1": "top-1", "top5": "top-5", "top1_percent": "top-1", "ece_percent": "ECE, %", "batch_size": "batch"},
    **{"AP_S": "AP small", "AP_M": "AP medium", "AP_L": "AP large", "autoaugment": "AutoAugment"},
    "final_cross_entropy": "training cross-entropy at the end",
}


def label(name: str) -> str:
    """Return the heading of a row or column: `top-1, ResNet-18` for `top1_resnet18`, `DSN` for `dsn`. An unknown name
    is returned unchanged."""
    for prefix in published.PREFIXES:
        if name.startswith(prefix) and name not in _MEASURED:
            return f"{label(prefix.removesuffix('_'))}, {label(name.removeprefix(prefix))}"
    return _MEASURED.get(name, name_of(name))
