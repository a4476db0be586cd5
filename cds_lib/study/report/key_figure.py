"""The figure of README, index and article: CDS minus each of what it is compared with, seed by seed."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cds_lib.study.protocols import Seeds
from cds_lib.study.report.comparisons import CONTROL
from cds_lib.study.report.frame import compare, results
from cds_lib.study.report.own_style import own_style
from cds_lib.study.store import Store
from cds_lib.study.tables import find_table

NAMES = {
    "baseline": "baseline",
    "dsn": "DSN",
    "dks": "DKS",
    "dhm": "DHM",
    CONTROL: "control:\nbaseline that\nsees two views",
}
OURS, SEEDS, PUBLISHED = "#1f4e8c", "#9db7d5", "#c05000"


@own_style
def key_figure(profile: str, seeds: Seeds, store: Store) -> Figure:
    """Top-1 of CDS minus that of the baseline, DSN, DKS, DHM and the two-view control, ResNet-18 on CIFAR-100: a point
    per seed, the mean with its 95 % interval, the published difference as a diamond."""
    frame = pd.concat([results(find_table(name), profile, seeds, store) for name in ("table1_cifar100", "deviations")])
    frame = frame.query("dataset == 'cifar100' and model == 'resnet18' and setting == 'supervised'")
    frame = frame.drop_duplicates(["run", "method"])
    values = frame.pivot(index="seed", columns="method", values="value")
    each = values[list(NAMES)].rsub(values["cds"], axis=0).melt(var_name="against", value_name="points").dropna()
    with mpl.rc_context(sns.axes_style("whitegrid") | {"font.size": 11}):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        axes = figure.subplots()
    sns.stripplot(
        each, x="points", y="against", order=list(NAMES), color=SEEDS, size=5, jitter=False, ax=axes, zorder=1
    )
    for y, method in enumerate(NAMES):
        for row in compare(frame, "cds", method).itertuples():
            axes.plot([row.low, row.high], [y, y], color=OURS, lw=2.2, solid_capstyle="butt")
            axes.plot(row.difference, y, "o", color=OURS, ms=8)
            axes.plot(row.published, y, "D", mfc="none", mec=PUBLISHED, ms=8, mew=1.6)
    axes.axvline(0, color="#444444", lw=1)
    axes.set_yticks(range(len(NAMES)), NAMES.values())
    axes.set(xlabel="top-1 of CDS minus that of ... (percentage points)", ylabel="")
    axes.plot([], [], ".", color=SEEDS, ms=10, label="a seed")
    axes.plot([], [], "o-", color=OURS, label="mean, 95 % interval")
    axes.plot([], [], "D", mfc="none", mec=PUBLISHED, ls="none", label="published")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
