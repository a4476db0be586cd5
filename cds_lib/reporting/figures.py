"""The plots of the reports. Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and a few
more where there are many methods; markers differ as well. Figures are made without pyplot, so that they need no display
and leave no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cds_lib.files import write_text
from cds_lib.reporting import naming, printed, wording
from cds_lib.study.catalogue import METHODS
from cds_lib.study.measures import measure, short_name
from cds_lib.study.report.own_style import own_style
from cds_lib.study.tables import TABLES

# Of others, in the order of their table, where no method of that table looks so.
_OTHERS = (
    *(("#0072B2", "s"), ("#009E73", "D"), ("#CC79A7", "v"), ("#56B4E9", "X")),
    *(("#6A51A3", "<"), ("#7A8B00", ">"), ("#000000", "d"), ("#8C6D31", "h")),
)
LINES = 6  # in a panel of curves; more could not be told apart
CLAIMS = 30  # lines in the plot of all claims
THIS_STUDY, PAPER = "#0072B2", "#D55E00"  # where a figure sets these two against each other


@cache
def _looks() -> dict[str, tuple[str, str]]:
    """Row -> colour and marker, of those that the catalogue or their table gives one: the same in every figure."""
    own = {row: look for table in TABLES.values() for row, look in table.looks.items()}
    return own | {name: (method.colour, method.marker) for name, method in METHODS.items() if method.colour}


def style(method: str, methods: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a method, among those of its table."""
    looks = _looks()
    if method in looks:
        return looks[method]
    taken = {looks[name] for name in methods if name in looks}
    free = [look for look in _OTHERS if look not in taken]
    others = [name for name in methods if name not in looks]
    return free[others.index(method) % len(free)]


@own_style
def gains(frame: pd.DataFrame) -> Figure:
    """Difference to the baseline of every group of rows: ours (filled, with its 95 % interval), the paper's (hollow).

    `frame` is a tidy table, of which the first metric is shown; a row without a difference of ours has no line, but
    they are counted below. As long as there are none of ours, the published ones stand alone. A group is a network, or
    whatever else varies in the table.
    """
    first = frame[frame["metric"] == frame["metric"].iloc[0]]
    group_names = [name for name in printed.group_columns(first) if first[name].nunique() > 1] or ["model"]
    rows = first[first["method"] != "baseline"]
    if not rows.duplicated(["dataset", "model", "method"]).any():  # the setting tells no two rows apart
        group_names = [name for name in group_names if name != "setting"] or ["model"]
    ours, published = rows["baseline_delta"].notna(), rows["paper_delta"].notna()
    label = _difference_to("baseline", first)
    if not (ours | published).any():
        return _sentence("No difference is known yet.")
    if not ours.any():
        label += "\nThe published differences: this study has no run yet that can be compared."
    elif (missing := int((published & ~ours).sum())) > 0:
        label += f"\nNot shown: {missing} of {published.sum()} published differences, which have no runs here yet."
    rows = rows[ours if ours.any() else published]
    methods = list(dict.fromkeys(first["method"][first["method"] != "baseline"]))
    groups = [naming.group_title(names) for names in rows[group_names].itertuples(index=False)]
    places = list(dict.fromkeys(groups))
    line = 0.34 if ours.any() else 0.2
    figure = Figure(figsize=(7.5, 1.7 + line * (len(rows) + 0.6 * len(places))), layout="constrained")
    axes = figure.add_subplot()
    heights = [index + 0.6 * places.index(group) for index, group in enumerate(groups)]
    for y, (_, row) in zip(heights, rows.iterrows(), strict=True):
        colour, marker = style(row["method"], methods)
        if not np.isnan(row["paper_delta"]):
            axes.plot(
                row["paper_delta"], y, marker, mfc="none", mec=colour, ms=8, mew=1.4, zorder=4
            )  # seen around ours
        if not np.isnan(row["baseline_delta"]):
            _ours(axes, row, y, colour, marker)
            _beside(axes, f"n = {row['n_pairs']}", y)
    if len(places) > 1:
        for method in dict.fromkeys(rows["method"]):
            colour, marker = style(method, methods)
            axes.plot([], [], color=colour, marker=marker, ls="none", label=naming.method_name(method))
        middles = [np.mean([y for y, group in zip(heights, groups, strict=True) if group == place]) for place in places]
        axes.set_yticks(middles, places)
    else:  # the lines themselves can be named
        axes.set_yticks(heights, [naming.method_name(method) for method in rows["method"]])
        label = f"{places[0]}: {label}"
    if ours.any():
        axes.plot([], [], "o-", color="#888888", ms=6, lw=1.6, label="filled: this study, 95 % interval")
    if rows["paper_delta"].notna().any():
        axes.plot([], [], "o", mfc="none", mec="#888888", ms=9, mew=1.4, label="hollow: paper")
    _plain(axes, heights[-1])
    figure.supxlabel(label, fontsize=10)
    if rows["profile"].iloc[0] == "smoke":
        axes.set_title("smoke profile: this study's points mean nothing", fontsize=10)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


@own_style
def _sentence(text: str) -> Figure:
    """A line of text, where a plot would be empty."""
    figure = Figure(figsize=(7.5, 0.5), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=10)
    return figure


def _difference_to(reference: str, rows: pd.DataFrame) -> str:
    """What the axis of the rows' first measure shows, with its unit and the side that is better."""
    metric = rows["metric"].iloc[0]
    what = measure(metric)
    return f"difference of {short_name(metric)} to the {reference} ({what.unit}; {what.better})"


def _ours(axes: Axes, row: pd.Series, y: float, colour: str, marker: str) -> None:
    """A difference of this study, with its interval where it has one."""
    if not np.isnan(row["ci_low"]):
        axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    axes.plot(row["baseline_delta"], y, marker, color=colour, ms=6)


def _beside(axes: Axes, text: str, y: float) -> None:
    """At the right end of a line: the paired seeds that its difference rests on."""
    axes.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#555555")


def _plain(axes: Axes, last: float) -> None:
    """A panel of lines from 0, at the top, to `last`."""
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set_ylim(last + 0.6, -0.6)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


@own_style
def switches(rows: pd.DataFrame) -> Figure:
    """What each row differs by from its reference, with its 95 % interval: a panel a group of rows, a line a row.

    `rows` are those of a tidy table that have a reference; those without a difference are only counted.
    """
    known = rows["baseline_delta"].notna()
    if not known.any():
        return _sentence("No switch has been run yet.")
    panels = list(rows[known].groupby(["dataset", "model", "setting"], sort=False))
    figure = Figure(figsize=(7.5, 1.2 + sum(0.5 + 0.3 * len(panel) for _, panel in panels)), layout="constrained")
    heights = [1 + len(panel) for _, panel in panels]
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (names, panel) in zip(grid, panels, strict=True):
        for y, (_, row) in enumerate(panel.iterrows()):
            _ours(axes, row, y, THIS_STUDY, "o")
            _beside(axes, f"n = {row['n_pairs']}", y)
        axes.set_yticks(range(len(panel)), [naming.method_name(method) for method in panel["method"]], fontsize=9)
        axes.set_title(naming.group_title(names), fontsize=10, loc="left")
        _plain(axes, len(panel) - 1)
    label = f"{_difference_to('default', rows)}\nbars: 95 % interval; n: paired seeds"
    if not known.all():
        label += f"; not shown: {(~known).sum()} switches that have no runs yet"
    if rows["profile"].iloc[0] == "smoke":
        label += "\nsmoke profile: these points mean nothing"
    figure.supxlabel(label, fontsize=9)
    return figure


@own_style
def claims(frame: pd.DataFrame) -> Figure:
    """A line a claim: our difference (filled, with its 95 % interval) and the published one (hollow, diamond); a panel
    for measures that have a unit and a better side in common, since both decide how its axis is read.

    `frame` has the columns of `verdicts.tidy`; claims without a difference of ours are left out, and so are those after
    the first `CLAIMS`, which a reader finds in the table.
    """
    known = frame[frame["baseline_delta"].notna()]
    if known.empty:
        return _sentence("No claim has been tested.")
    rows = known.head(CLAIMS)
    what = [measure(metric) for metric in rows["metric"]]
    panels = list(rows.groupby([[m.better for m in what], [m.unit for m in what]], sort=False))
    sizes = [0.3 * len(panel) for _, panel in panels]
    figure = Figure(figsize=(7.5, 0.9 + sum(size + 0.75 for size in sizes)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[size + 0.2 for size in sizes])[:, 0]
    for axes, ((better, unit), panel) in zip(grid, panels, strict=True):
        metrics = list(dict.fromkeys(short_name(metric) for metric in panel["metric"]))
        for y, (_, row) in enumerate(panel.iterrows()):
            axes.plot([row["baseline_delta"], row["paper_delta"]], [y, y], color="#cccccc", lw=0.8, zorder=1)
            _ours(axes, row, y, THIS_STUDY, "o")
            axes.plot(row["paper_delta"], y, "D", mfc="none", mec=PAPER, ms=6, mew=1.4)
            _beside(axes, f"n = {row['n_pairs']} {wording.SIGNS[row['verdict']]}", y)
        names = [f"{wording.statement(row)}\n{_place(row, len(metrics) > 1)}" for _, row in panel.iterrows()]
        axes.set_yticks(range(len(panel)), names, fontsize=8)
        axes.set_title(f"{', '.join(metrics)}: {better}", fontsize=10, loc="left")
        axes.set_xlabel(f"difference ({unit})", fontsize=9)
        _plain(axes, len(panel) - 1)
    grid[0].plot([], [], "o-", color=THIS_STUDY, label="this study, 95 % interval")
    grid[0].plot([], [], "D", mfc="none", mec=PAPER, mew=1.4, label="paper")
    signs = ", ".join(f"{wording.SIGNS[verdict]} {verdict}" for verdict in wording.counts(rows))
    below = f"n: paired seeds. {signs}."
    if len(known) > len(rows):
        below += f" The first {len(rows)} of {len(known)} claims."
    if rows["profile"].iloc[0] == "smoke":
        below += "\nsmoke profile: this study's points mean nothing"
    figure.supxlabel(below, fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _place(row: pd.Series, with_measure: bool) -> str:
    """Where a claim holds, without the measure where the panel names it."""
    return wording.place(row) if with_measure else naming.group_title(row[["dataset", "model", "setting"]])


@own_style
def accuracy_curves(
    histories: Mapping[str, Mapping[str, Sequence[pd.DataFrame]]],
    column: str = "test_top1",
    label: str = "test top-1 accuracy (%)",
) -> Figure:
    """An accuracy against the epoch, a panel a group: the mean over seeds, lowest to highest seed as a band; of a group
    with more methods than can be told apart, a panel a method, beside the baseline.

    `histories` maps a group (a model, or what else varies) and a method to one history a seed, with the columns `epoch`
    and `column` (percent; empty at epochs without an evaluation). Epochs that not every seed has reached are left out,
    and so are groups without runs. A method that was tested once is a ring; if all were, a sentence says so.
    """
    found = {
        group: {method: runs for method, runs in by_method.items() if not together(runs, column).empty}
        for group, by_method in histories.items()
    }
    methods = list(dict.fromkeys(method for by_method in histories.values() for method in by_method))
    panels = [panel for group, by_method in found.items() for panel in _panels(group, by_method)]
    if not panels:
        return _sentence("No run is finished.")
    runs_of = [runs for by_method in found.values() for runs in by_method.values()]
    if all(len(together(runs, column)) == 1 for runs in runs_of):
        return _sentence("Each run was tested once, at its end: the table has the numbers, and there is no curve.")
    columns = min(len(panels), 3 if len(panels) > len(found) else 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7.5, 0.9 + (2.3 if columns < 3 else 1.8) * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=columns == 3).flat)
    for axes, (title, by_method) in zip(grid, panels, strict=False):
        for method, runs in by_method.items():
            curve(axes, runs, column, style(method, methods), naming.method_name(method))
        axes.set_title(title, fontsize=10 if columns < 3 else 8.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    several = any(len(runs) > 1 for runs in runs_of)
    figure.supxlabel("epoch (line: mean over seeds, band: lowest to highest seed)" if several else "epoch", fontsize=10)
    figure.supylabel(f"{label}\nhigher is better", fontsize=10)
    lines = {line.get_label(): line for axes in grid for line in axes.lines}
    place = {"loc": "outside upper center", "ncols": min(len(lines), 3 if max(map(len, lines)) > 16 else 5)}
    figure.legend(lines.values(), lines.keys(), **place, frameon=False, fontsize=9)
    return figure


def _panels(group: str, by_method: Mapping[str, Sequence[pd.DataFrame]]) -> list[tuple[str, dict]]:
    """(title, methods and their runs) of the panels of a group; none without runs."""
    if len(by_method) <= LINES:
        return [(group, dict(by_method))] if by_method else []
    baseline = {name: runs for name, runs in by_method.items() if name == "baseline"}
    return [
        (f"{group}, {naming.method_name(name)}", baseline | {name: runs})
        for name, runs in by_method.items()
        if name != "baseline"
    ]


def together(runs: Sequence[pd.DataFrame], column: str) -> pd.DataFrame:
    """A measure by epoch, a column a run, at the epochs that every run was tested at; empty without runs."""
    curves = [run.set_index("epoch")[column].dropna() for run in runs if column in run]
    return pd.concat(curves, axis=1, join="inner").sort_index() if curves else pd.DataFrame()


def curve(axes: Axes, runs: Sequence[pd.DataFrame], column: str, look: tuple[str, str], label: str) -> None:
    """One method's line and band, in the `style` that it has; a ring where it was tested once."""
    values = together(runs, column)
    if values.empty:
        return
    colour, marker = look
    if len(values) == 1:
        ring = {"mfc": "none", "mew": 1.6, "ms": 10, "ls": "none", "zorder": 3}  # what lies below it stays in view
        axes.plot(values.index, values.mean(axis=1), marker, color=colour, label=f"{label} (tested once)", **ring)
        return
    axes.fill_between(values.index, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15, lw=0)
    few = max(len(values) // 10, 1)
    axes.plot(values.index, values.mean(axis=1), color=colour, marker=marker, markevery=few, ms=4, label=label)


@own_style
def accuracy_by_fraction(frame: pd.DataFrame) -> Figure:
    """Test accuracy against the labelled percentage, a column per data set: the published curves above, then ours
    (mean, bars of one standard deviation over seeds), then our differences to the baseline with their 95 % intervals.

    Published accuracies are far above those of a miniature, so each panel of accuracies has its own scale.
    `frame` is a tidy table whose settings are `semi_<percent>`.
    """
    datasets = list(dict.fromkeys(frame["dataset"]))
    methods = list(dict.fromkeys(frame["method"]))
    figure = Figure(figsize=(4.2 * len(datasets), 8.0), layout="constrained")
    grid = figure.subplots(3, len(datasets), squeeze=False, sharex=True, height_ratios=(2, 3, 2))
    for (paper, ours, below), dataset in zip(grid.T, datasets, strict=True):
        for index, method in enumerate(methods):
            rows = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
            percent = rows["setting"].str.removeprefix("semi_").astype(int)
            colour, marker = style(method, methods)
            look = {"color": colour, "marker": marker, "ms": 6}
            # Side by side, so that bars do not hide each other.
            x = percent + 0.6 * (index - (len(methods) - 1) / 2)
            ours.errorbar(
                x, rows["mean"], yerr=rows["std"].fillna(0.0), capsize=3, label=naming.method_name(method), **look
            )
            if rows["paper"].notna().any():
                paper.plot(percent, rows["paper"], ls="--", mfc="none", **look)
            reach = [rows["baseline_delta"] - rows["ci_low"], rows["ci_high"] - rows["baseline_delta"]]
            below.errorbar(x, rows["baseline_delta"], yerr=np.nan_to_num(reach), ls="none", capsize=3, **look)
        below.axhline(0, color="#777777", lw=0.8)
        paper.set_title(naming.name_of(dataset))
        below.set_xlabel("labelled training images (%)")
        for axes in (paper, ours, below):
            axes.grid(color="#dddddd", lw=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    grid[2][0].sharey(grid[2][-1])
    for (first, *_), label in zip(
        grid,
        (
            "published\ntop-1 (%)",
            "this study: test top-1 (%)\nhigher is better\nbars: one standard deviation",
            "this study: difference\nto the baseline (points)\nbars: 95 % interval",
        ),
        strict=True,
    ):
        first.set_ylabel(label, fontsize=9)
    handles, labels = grid[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


@own_style
def svg_text(figure: Figure, description: str = "") -> str:
    """The figure as an SVG document that is the same, byte for byte, every time it is drawn; `description` becomes its
    title, which screen readers read."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None} | ({"Title": description} if description else {}))
    return text.getvalue()


def save_svg(figure: Figure, path: Path, description: str = "") -> Path:
    """Write the figure as SVG, complete or not at all."""
    write_text(Path(path), svg_text(figure, description))
    return Path(path)
