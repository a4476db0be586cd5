"""What is said beside the verdicts, in the summary, the index and the README."""

from __future__ import annotations

from cds_lib.findings import breadth, control, held_out
from cds_lib.study.profiles import Seeds
from cds_lib.study.store import Store


def sentences(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """All networks of Table 1 together, other images, and the controls."""
    return [
        *breadth.sentences(profile, seeds, store),
        *held_out.sentences(profile, seeds, store),
        *control.sentences(profile, seeds, store),
    ]
