"""What the profiles need of a data set that was just imported, where it has less."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cds_lib.study.data.registry import DataSet
from cds_lib.study.protocols import PROFILES
from cds_lib.study.tables import TABLES
from cds_lib.study.text import counted


def say(known: DataSet, root: Path) -> None:
    """A line for each kind of run of a profile that cannot be trained on what is at hand."""
    from cds_lib.study.engines import split  # NumPy and Pillow, which `--help` can do without

    if known.layout == "coco" or (labels := split.labels_at_hand(known, root)) is None:
        return
    for profile in PROFILES:
        specs = {spec.id: spec for table in TABLES.values() for spec in table.runs(profile, None)}
        specs = [spec for spec in specs.values() if spec.dataset == known.name and spec.budget.source == "real"]
        for reason, runs in Counter(split.too_small(specs, labels, known.title).values()).items():
            print(f"Profile {profile}: {runs} of {counted(len(specs), 'run')} cannot be trained: {reason}")
