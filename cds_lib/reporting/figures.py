"""The plots of the reports. Colours are those of Okabe and Ito, which colour-blind readers can tell apart; markers
differ as well. Figures are made without pyplot, so that they need no display and leave no global state."""

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

COLOURS = ("#444444", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def colour_and_marker(index: int) -> tuple[str, str]:
    """Of the method in this place of its table; beyond the seventh, colours come again with other markers."""
    return COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def gains(frame: pd.DataFrame) -> Figure:
    """Difference to the baseline of every group of rows: ours (filled, with its 95 % interval), the paper's (hollow).

    `frame` is a tidy table, of which the first metric is shown; rows without a reference are left out, rows not run
    show the published value alone. A group is a network, or whatever else varies in the table.
    """
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    group_names = [name for name in formats.group_columns(first) if first[name].nunique() > 1] or ["model"]
    rows = first[first["method"] != "baseline"]
    groups = [naming.group_title(names) for names in rows[group_names].itertuples(index=False)]
    places = list(dict.fromkeys(groups))
    # The baseline has no row here but keeps its place, so that a method looks the same in every figure of a table.
    methods = ["baseline", *dict.fromkeys(rows["method"])]
    smoke = rows["profile"].iloc[0] == "smoke"
    step = 0.8 / max(len(methods) - 1, 1)
    figure = Figure(figsize=(7.5, 1.6 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for (_, row), group in zip(rows.iterrows(), groups, strict=True):
        index = methods.index(row["method"])
        y = places.index(group) + (index - len(methods) / 2) * step
        colour, marker = colour_and_marker(index)
        if not np.isnan(row["paper_delta"]):
            axes.plot(row["paper_delta"], y, marker, mfc="none", mec=colour, ms=7, mew=1.4)
        if not np.isnan(row["baseline_delta"]):
            if not np.isnan(row["ci_low"]):
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot(row["baseline_delta"], y, marker, color=colour, ms=6)
        label = f"n = {row['n']}" if row["n"] else "not run"
        axes.annotate(label, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#555555")
    for index, method in enumerate(methods[1:], start=1):
        colour, marker = colour_and_marker(index)
        style = {"color": colour, "marker": marker, "ls": "none"}
        axes.plot([], [], **style, label=f"{naming.method_name(method)}, this study")
        if rows.loc[rows["method"] == method, "paper_delta"].notna().any():
            axes.plot([], [], **style, mfc="none", mew=1.4, label=f"{naming.method_name(method)}, paper")
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set_yticks(range(len(places)), places)
    axes.set_ylim(len(places) - 0.5, -0.5)
    measure = short_name(first["metric"].iloc[0])
    axes.set_xlabel(f"difference of {measure} to the baseline (percentage points), bars: 95 % interval, paired seeds")
    if smoke:
        axes.set_title("smoke profile: this study's points mean nothing", fontsize=10)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(max(len(methods) - 1, 1), 4), frameon=False, fontsize=9)
    return figure


def switches(rows: pd.DataFrame) -> Figure:
    """What each row differs by from its reference, with its 95 % interval: a panel a group of rows, a line a row.

    `rows` are those of a tidy table that have a reference; one that was not run keeps its line.
    """
    panels = list(rows.groupby(["dataset", "model", "setting"], sort=False))
    figure = Figure(figsize=(7.5, 1.2 + sum(0.5 + 0.3 * len(panel) for _, panel in panels)), layout="constrained")
    heights = [1 + len(panel) for _, panel in panels]
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for index, (axes, (names, panel)) in enumerate(zip(grid, panels, strict=True)):
        colour, marker = colour_and_marker(index + 1)
        for y, (_, row) in enumerate(panel.iterrows()):
            if not np.isnan(row["ci_low"]):
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot(row["baseline_delta"], y, marker, color=colour, ms=6)
            label = f"n = {row['n']}" if row["n"] else "not run"
            place = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(label, (1.01, y), **place, fontsize=8, color="#555555")
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
    ours, paper = COLOURS[1], COLOURS[2]
    for y, (_, row) in enumerate(rows.iterrows()):
        axes.plot([row["baseline_delta"], row["paper_delta"]], [y, y], color="#cccccc", lw=0.8, zorder=1)
        if not np.isnan(row["ci_low"]):
            axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=ours, lw=1.8, solid_capstyle="butt")
        axes.plot(row["baseline_delta"], y, "o", color=ours, ms=6)
        axes.plot(row["paper_delta"], y, "D", mfc="none", mec=paper, ms=6, mew=1.4)
        place = ("axes fraction", "data")
        axes.annotate(f"n = {row['n_pairs']}", (1.01, y), xycoords=place, va="center", fontsize=8, color="#555555")
    axes.plot([], [], "o-", color=ours, label="this study, 95 % interval")
    axes.plot([], [], "D", mfc="none", mec=paper, mew=1.4, label="paper")
    names = [f"{wording.statement(row)}\n{wording.place(row)}" for _, row in rows.iterrows()]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
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
            curve(axes, runs, column, methods.index(method), naming.method_name(method))
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


def curve(axes: Axes, runs: Sequence[pd.DataFrame], column: str, index: int, label: str) -> None:
    """One method's line and band, in the style of its place among the methods."""
    curves = [run.set_index("epoch")[column].dropna() for run in runs if column in run]
    if not curves:
        return
    colour, marker = colour_and_marker(index)
    together = pd.concat(curves, axis=1, join="inner").sort_index()
    axes.fill_between(together.index, together.min(axis=1), together.max(axis=1), color=colour, alpha=0.15, lw=0)
    few = max(len(together) // 10, 1)
    axes.plot(together.index, together.mean(axis=1), color=colour, marker=marker, markevery=few, ms=4, label=label)


def accuracy_by_fraction(frame: pd.DataFrame) -> Figure:
    """Test accuracy against the labelled percentage, a panel a data set: ours (mean, bars of one standard deviation
    over seeds) with filled markers, the published curves hollow and dashed.

    `frame` is a tidy table whose settings are `semi_<percent>`.
    """
    datasets = list(dict.fromkeys(frame["dataset"]))
    methods = list(dict.fromkeys(frame["method"]))
    figure = Figure(figsize=(4.2 * len(datasets), 4), layout="constrained")
    for axes, dataset in zip(np.atleast_1d(figure.subplots(1, len(datasets))), datasets, strict=True):
        for index, method in enumerate(methods):
            rows = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
            percent = rows["setting"].str.removeprefix("semi_").astype(int)
            colour, marker = colour_and_marker(index)
            style = {"color": colour, "marker": marker, "ms": 6}
            name = naming.method_name(method)
            bars = rows["std"].fillna(0.0)
            axes.errorbar(percent, rows["mean"], yerr=bars, capsize=3, label=f"{name}, this study", **style)
            if rows["paper"].notna().any():
                axes.plot(percent, rows["paper"], ls="--", mfc="none", label=f"{name}, paper", **style)
        axes.set_title(naming.name_of(dataset))
        axes.set_xlabel("labelled training images (%)")
        axes.set_ylabel("test top-1 accuracy (%)")
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
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
