"""Two methods compared seed by seed, in words: what the controls, the analyses and distillation say in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from cds_lib.reporting import formats
from cds_lib.study import statistics
from cds_lib.study.protocols import Seeds
from cds_lib.study.statistics import Difference
from cds_lib.study.table import Cell
from cds_lib.study.tables import TABLES
from cds_lib.study.tables import deviations as ablations

# Of Table 1's methods: those between see one view, as the baseline does.
BASELINE, CLASSIFIERS, CDS = "baseline", ("dsn", "dks", "dhm"), "cds"
LOSS = "train_cross_entropy"  # in history.csv
# What an interval says. One that contains 0 leaves it open; of fewer seeds than a verdict needs, nothing is read.
ABOVE, BELOW, OPEN, FEW = "above", "below", "open", "few"
DECIDE_NOTHING = f"fewer than {statistics.MIN_SEEDS} seeds decide nothing"


def headline_cells(profile: str, seeds: Seeds) -> dict[str, Cell]:
    """Row -> its cell of ResNet-18 on CIFAR-100: the methods of Table 1, and what `deviations` switches."""
    cells = [cell for name in ("table1_cifar100", "deviations") for cell in TABLES[name].cells(profile, seeds)]
    headline = (ablations.CIFAR, ablations.MODEL, "supervised")
    return {cell.method: cell for cell in cells if (cell.dataset, cell.model, cell.setting) == headline}


def outcome(found: Difference) -> str:
    """ABOVE or BELOW where the 95 % interval excludes 0, OPEN where it does not, FEW without seeds enough."""
    if found.n < statistics.MIN_SEEDS:
        return FEW
    return ABOVE if found.ci_low > 0 else BELOW if found.ci_high < 0 else OPEN


def compare(ours: Mapping[int, float], reference: Mapping[int, float], decimals: int = 2) -> tuple[str, str]:
    """What the interval of `ours - reference` says, and `+1.00 [+0.50, +1.50] (n = 3, p = 0.250)`; at least one seed
    must be common."""
    found = statistics.paired_difference(ours, reference)
    p = "" if found.p_sign_flip is None else f", p = {found.p_sign_flip:.3f}"
    return outcome(found), f"{interval(found, decimals)} (n = {found.n}{p})"


def interval(found: Difference, decimals: int = 2) -> str:
    """`+1.00 [+0.50, +1.50]`"""
    return formats.difference(found.delta, found.ci_low, found.ci_high, decimals)
