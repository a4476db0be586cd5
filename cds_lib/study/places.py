"""Where things are: the checkout, its notebooks, the results of a profile."""

from __future__ import annotations

from pathlib import Path

from cds_lib.study import profiles

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = REPOSITORY / "notebooks"


def results_dir(profile: str, argument: str = "") -> Path:
    """`argument`, else results/<profile> of this checkout."""
    return Path(argument) if argument else REPOSITORY / "results" / profiles.check_profile(profile)
