"""Where things are in the checkout: the notebooks, the results of a profile."""

from __future__ import annotations

import os
from pathlib import Path

from cds_lib.study import protocols
from cds_lib.study.checkout import CHECKOUT

NOTEBOOKS = CHECKOUT / "notebooks"


def results_dir(profile: str, argument: str = "") -> Path:
    """`argument`, where a ~ is the home folder, else results/<profile> here. UsageError: unknown profile."""
    protocols.check_profile(profile)
    return Path(os.path.expanduser(argument)) if argument else CHECKOUT / "results" / profile
