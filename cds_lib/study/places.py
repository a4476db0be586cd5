"""Where things are: the checkout, its notebooks, the results of a profile."""

from __future__ import annotations

from pathlib import Path

from cds_lib.data.registry import CHECKOUT
from cds_lib.study import profiles

NOTEBOOKS = CHECKOUT / "notebooks"


def results_dir(profile: str, argument: str = "") -> Path:
    """`argument`, else results/<profile> of this checkout."""
    return Path(argument) if argument else CHECKOUT / "results" / profiles.check_profile(profile)
