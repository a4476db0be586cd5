"""The plots of the reports. Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and a few
more where there are many methods; markers differ as well. Figures are made without pyplot, so that they need no display
and leave no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cds_lib.files import write_text
from cds_lib.reporting import formats, naming, wording
from cds_lib.study.measures import short_name

# The methods of the study look the same in every figure.
_STYLES = {
    "baseline": ("#444444", "o"),
    "baseline_matched": ("#999999", "o"),
    "baseline_autoaugment": ("#999999", "o"),
    "dsn": ("#0072B2", "s"),
    "dks": ("#009E73", "D"),
    "dhm": ("#CC79A7", "v"),
    "cds": ("#D55E00", "^"),
    "cds_simclr": ("#D55E00", "^"),
    "cds_kd": ("#8C2D04", "P"),
    "cds_autoaugment": ("#E69F00", "^"),
}
# Of others, in the order of their table.
_OTHERS = (
    *(("#0072B2", "s"), ("#009E73", "D"), ("#CC79A7", "v"), ("#56B4E9", "X")),
    *(("#6A51A3", "<"), ("#7A8B00", ">"), ("#000000", "d"), ("#8C6D31", "h")),
)
THIS_STUDY, PAPER = "#0072B2", "#D55E00"  # where a figure sets these two against each other


def style(method: str, methods: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a method, among those of its table."""
    if method in _STYLES:
        return _STYLES[method]
    others = [name for name in methods if name not in _STYLES]
    return _OTHERS[others.index(method) % len(_OTHERS)]


def gains(frame: pd.DataFrame) -> Figure:
    """Difference to the baseline of every group of rows: ours (filled, with its 95 % interval), the paper's (hollow).

    `frame` is a tidy table, of which the first metric is shown; rows without a reference are left out, rows not run
    show the published value alone. A group is a network, or whatever else varies in the table.
    """
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    group_names = [name for name in formats.group_columns(first) if first[name].nunique() > 1] or ["model"]
    rows = first[first["method"] != "baseline"]
    if not rows.duplicated(["dataset", "model", "method"]).any():  # the setting tells no two rows apart
        group_names = [name for name in group_names if name != "setting"] or ["model"]
    # A group without any difference, ours or the paper's, would be an empty place.
    known = rows.groupby(group_names, sort=False)[["baseline_delta", "paper_delta"]].transform("count").sum(axis=1) > 0
    rows = rows[known]
    if rows.empty:
        figure = Figure(figsize=(7.5, 1.0), layout="constrained")
        figure.text(0.5, 0.5, "no difference is known yet", ha="center", va="center")
        return figure
    groups = [naming.group_title(names) for names in rows[group_names].itertuples(index=False)]
    places, methods = list(dict.fromkeys(groups)), list(dict.fromkeys(rows["method"]))
    step = 0.8 / len(methods)
    figure = Figure(figsize=(7.5, 1.6 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    shown = []
    for (_, row), group in zip(rows.iterrows(), groups, strict=True):
        y = places.index(group) + (methods.index(row["method"]) - (len(methods) - 1) / 2) * step
        colour, marker = style(row["method"], methods)
        if not np.isnan(row["paper_delta"]):
            axes.plot(row["paper_delta"], y, marker, mfc="none", mec=colour, ms=7, mew=1.4)
            shown.append(row["method"])
        if not np.isnan(row["baseline_delta"]):
            if not np.isnan(row["ci_low"]):
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot(row["baseline_delta"], y, marker, color=colour, ms=6)
            shown.append(row["method"])
        _count(axes, row, y)
    for method in dict.fromkeys(shown):
        colour, marker = style(method, methods)
        axes.plot([], [], color=colour, marker=marker, ls="none", label=naming.method_name(method))
    axes.plot([], [], "o-", color="#888888", ms=6, lw=1.6, label="filled: this study, 95 % interval")
    if rows["paper_delta"].notna().any():
        axes.plot([], [], "o", mfc="none", mec="#888888", ms=7, mew=1.4, label="hollow: paper")
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set_yticks(range(len(places)), places)
    axes.set_ylim(len(places) - 0.5, -0.5)
    figure.supxlabel(
        f"difference of {short_name(first['metric'].iloc[0])} to the baseline (percentage points)", fontsize=10
    )
    if rows["profile"].iloc[0] == "smoke":
        axes.set_title("smoke profile: this study's points mean nothing", fontsize=10)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _count(axes: Axes, row: pd.Series, y: float) -> None:
    """At the right end of a line, the paired seeds that its difference rests on."""
    label = f"n = {row['n_pairs']}" if row["n_pairs"] else "not run"
    axes.annotate(label, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#555555")


def switches(rows: pd.DataFrame) -> Figure:
    """What each row differs by from its reference, with its 95 % interval: a panel a group of rows, a line a row.

    `rows` are those of a tidy table that have a reference; one that was not run keeps its line.
    """
    panels = list(rows.groupby(["dataset", "model", "setting"], sort=False))
    figure = Figure(figsize=(7.5, 1.2 + sum(0.5 + 0.3 * len(panel) for _, panel in panels)), layout="constrained")
    heights = [1 + len(panel) for _, panel in panels]
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (names, panel) in zip(grid, panels, strict=True):
        for y, (_, row) in enumerate(panel.iterrows()):
            if not np.isnan(row["ci_low"]):
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=THIS_STUDY, lw=1.6, solid_capstyle="butt")
            axes.plot(row["baseline_delta"], y, "o", color=THIS_STUDY, ms=6)
            _count(axes, row, y)
        axes.axvline(0, color="#777777", lw=0.8)
        axes.set_yticks(range(len(panel)), [naming.method_name(method) for method in panel["method"]], fontsize=9)
        axes.set_ylim(len(panel) - 0.5, -0.5)
        axes.set_title(naming.group_title(names), fontsize=10, loc="left")
        axes.grid(axis="x", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    measure = short_name(rows["metric"].iloc[0])
    label = f"difference of {measure} to the default (percentage points), bars: 95 % interval, paired seeds"
    if rows["profile"].iloc[0] == "smoke":
        label += "\nsmoke profile: these points mean nothing"
    figure.supxlabel(label, fontsize=9)
    return figure


def claims(frame: pd.DataFrame) -> Figure:
    """A line a claim: our difference (filled, with its 95 % interval) above the published one (hollow, diamond).

    `frame` has the columns of `verdicts.tidy`; claims without a difference of ours are left out.
    """
    rows = frame[frame["baseline_delta"].notna()]
    figure = Figure(figsize=(7.5, 1.4 + 0.3 * max(len(rows), 1)), layout="constrained")
    if not len(rows):
        figure.text(0.5, 0.5, "no claim has been tested", ha="center", va="center")
        return figure
    axes = figure.add_subplot()
    for y, (_, row) in enumerate(rows.iterrows()):
        axes.plot([row["baseline_delta"], row["paper_delta"]], [y, y], color="#cccccc", lw=0.8, zorder=1)
        if not np.isnan(row["ci_low"]):
            axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=THIS_STUDY, lw=1.8, solid_capstyle="butt")
        axes.plot(row["baseline_delta"], y, "o", color=THIS_STUDY, ms=6)
        axes.plot(row["paper_delta"], y, "D", mfc="none", mec=PAPER, ms=6, mew=1.4)
        _count(axes, row, y)
    axes.plot([], [], "o-", color=THIS_STUDY, label="this study, 95 % interval")
    axes.plot([], [], "D", mfc="none", mec=PAPER, mew=1.4, label="paper")
    names = [f"{wording.statement(row)}\n{wording.place(row)}" for _, row in rows.iterrows()]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set_xlabel("difference (percentage points), paired seeds")
    if rows["profile"].iloc[0] == "smoke":
        axes.set_title("smoke profile: this study's points mean nothing", fontsize=10)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def accuracy_curves(
    histories: Mapping[str, Mapping[str, Sequence[pd.DataFrame]]],
    column: str = "test_top1",
    label: str = "test top-1 accuracy (%)",
) -> Figure:
    """A measure against the epoch, a panel a group: the mean over seeds, lowest to highest seed as a band.

    `histories` maps a group (a model, or what else varies) and a method to one history a seed, with the columns `epoch`
    and `column` (percent; empty at epochs without an evaluation). Epochs that not every seed has reached are left out,
    and so are groups without runs.
    """
    methods = list(dict.fromkeys(method for by_method in histories.values() for method in by_method))
    panels = {model: by_method for model, by_method in histories.items() if any(map(len, by_method.values()))}
    columns = 2 if len(panels) > 1 else 1
    rows = max(-(-len(panels) // columns), 1)
    figure = Figure(figsize=(7.5, 0.7 + 2.3 * rows), layout="constrained")
    if not panels:
        figure.text(0.5, 0.5, "no run is finished", ha="center", va="center")
        return figure
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (model, by_method) in zip(grid, panels.items(), strict=False):
        for method, runs in by_method.items():
            curve(axes, runs, column, style(method, methods), naming.method_name(method))
        axes.set_title(model, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(label, fontsize=10)
    lines = {line.get_label(): line for axes in grid for line in axes.lines}
    place = {"loc": "outside upper center", "ncols": min(len(methods), 6)}
    figure.legend(lines.values(), lines.keys(), **place, frameon=False, fontsize=9)
    return figure


def curve(axes: Axes, runs: Sequence[pd.DataFrame], column: str, look: tuple[str, str], label: str) -> None:
    """One method's line and band, in the `style` that it has."""
    curves = [run.set_index("epoch")[column].dropna() for run in runs if column in run]
    if not curves:
        return
    colour, marker = look
    together = pd.concat(curves, axis=1, join="inner").sort_index()
    axes.fill_between(together.index, together.min(axis=1), together.max(axis=1), color=colour, alpha=0.15, lw=0)
    few = max(len(together) // 10, 1)
    axes.plot(together.index, together.mean(axis=1), color=colour, marker=marker, markevery=few, ms=4, label=label)


def accuracy_by_fraction(frame: pd.DataFrame) -> Figure:
    """Test accuracy against the labelled percentage, a column a data set: above, ours (mean, bars of one standard
    deviation over seeds) with filled markers, the published curves hollow and dashed; below, on a scale of their own,
    our differences to the baseline with their 95 % intervals.

    `frame` is a tidy table whose settings are `semi_<percent>`.
    """
    datasets = list(dict.fromkeys(frame["dataset"]))
    methods = list(dict.fromkeys(frame["method"]))
    figure = Figure(figsize=(4.2 * len(datasets), 6.4), layout="constrained")
    grid = figure.subplots(2, len(datasets), squeeze=False, sharex=True, height_ratios=(3, 2))
    for (above, below), dataset in zip(grid.T, datasets, strict=True):
        for index, method in enumerate(methods):
            rows = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
            percent = rows["setting"].str.removeprefix("semi_").astype(int)
            colour, marker = style(method, methods)
            look = {"color": colour, "marker": marker, "ms": 6}
            name = naming.method_name(method)
            above.errorbar(percent, rows["mean"], yerr=rows["std"].fillna(0.0), capsize=3, label=name, **look)
            if rows["paper"].notna().any():
                above.plot(percent, rows["paper"], ls="--", mfc="none", label=f"{name}, paper", **look)
            x = percent + 0.6 * (index - (len(methods) - 1) / 2)  # side by side, so that bars do not hide each other
            reach = [rows["baseline_delta"] - rows["ci_low"], rows["ci_high"] - rows["baseline_delta"]]
            below.errorbar(x, rows["baseline_delta"], yerr=np.nan_to_num(reach), ls="none", capsize=3, **look)
        below.axhline(0, color="#777777", lw=0.8)
        above.set_title(naming.name_of(dataset))
        below.set_xlabel("labelled training images (%)")
        for axes in (above, below):
            axes.grid(color="#dddddd", lw=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_ylabel("test top-1 accuracy (%)")
    grid[1][0].set_ylabel("difference to the baseline\n(percentage points)")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def svg_text(figure: Figure, description: str = "") -> str:
    """The figure as an SVG document that is the same, byte for byte, every time it is drawn; `description` becomes its
    title, which screen readers read."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cds_lib"}):
        figure.savefig(text, format="svg", metadata={"Date": None} | ({"Title": description} if description else {}))
    return text.getvalue()


def save_svg(figure: Figure, path: Path, description: str = "") -> Path:
    """Write the figure as SVG, complete or not at all."""
    write_text(Path(path), svg_text(figure, description))
    return Path(path)
