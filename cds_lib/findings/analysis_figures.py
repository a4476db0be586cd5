"""The plots of the analyses, in the style of `figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cds_lib.reporting import naming
from cds_lib.reporting.figures import curve, style
from cds_lib.study.measures import at_a_layer, measure
from cds_lib.study.report.own_style import own_style

# What stands on the axis of a measure that is taken at a layer; the rest are numbers without a unit.
_AXES = {
    "probe_top1": "test top-1 (%)",
    "transfer_top1": "test top-1 (%)",
    "knn": "k-NN accuracy (%)",
    "invariance": "cosine similarity",
    "cka_last": "linear CKA",
    "cka_baseline": "linear CKA",
}


@own_style
def by_layer(frame: pd.DataFrame) -> Figure:
    """Every measure of a tidy table against the depth, a panel a measure, a line a method: mean over seeds, bars of one
    standard deviation."""
    rows = frame.assign(
        measure=[at_a_layer(m)[0] for m in frame["metric"]], layer=[at_a_layer(m)[1] for m in frame["metric"]]
    )
    names = list(dict.fromkeys(rows["measure"]))
    methods = list(dict.fromkeys(rows["method"]))
    columns = min(len(names), 2)
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns if columns > 1 else 6.5, 0.6 + 2.7 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, name in zip(grid, names, strict=False):
        part = rows[rows["measure"] == name]
        layers = list(dict.fromkeys(part["layer"]))
        for index, method in enumerate(methods):
            own = part[part["method"] == method]
            if own.empty:
                continue
            shift = 0.06 * (index - (len(methods) - 1) / 2)  # side by side, so that bars do not hide each other
            _line(axes, [layers.index(layer) + shift for layer in own["layer"]], own, style(method, methods))
        if part["mean"].isna().all():
            axes.text(0.5, 0.5, "not analysed", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks(range(len(layers)), [layer.removeprefix("stage") for layer in layers])
        axes.set_xlabel("stage" if layers[0].startswith("stage") else "block (stage.block)")
        what = measure(part["metric"].iloc[0])
        axes.set_ylabel(_AXES.get(name, what.short))
        _plain(axes, f"{what.short}: {what.better}" if what.best else what.short)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for method in methods:
        colour, marker = style(method, methods)
        label = f"{naming.method_name(method)} ({_counts(frame[frame['method'] == method])})"
        grid[0].plot([], [], color=colour, marker=marker, ms=5, label=label)
    figure.legend(loc="outside upper center", ncols=len(methods), frameon=False, fontsize=9)
    figure.supxlabel("mean over seeds; bars: one standard deviation", fontsize=9)
    return figure


def _line(axes: Axes, x: Sequence[float], rows: pd.DataFrame, look: tuple[str, str]) -> None:
    colour, marker = look
    axes.errorbar(x, rows["mean"], yerr=rows["std"].fillna(0.0), color=colour, marker=marker, ms=5, lw=1.4, capsize=2)


def _counts(rows: pd.DataFrame) -> str:
    """`n = 3`, or `n = 1 to 3` where measures differ."""
    low, high = rows["n"].min(), rows["n"].max()
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@own_style
def loss_and_accuracy(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Training cross-entropy and, beside it, test accuracy against the epoch: mean over seeds, lowest to highest as a
    band. `histories` maps a method to one history a seed."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    panels = (
        (left, "train_cross_entropy", f"training cross-entropy (nats)\n{measure('train_cross_entropy').better}"),
        (right, "test_top1", f"test top-1 (%)\n{measure('test_top1_last').better}"),
    )
    for axes, column, label in panels:
        for method, runs in histories.items():
            curve(axes, runs, column, style(method, list(histories)), f"{naming.method_name(method)} (n = {len(runs)})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label, fontsize=9)
        _plain(axes, "")
    left.set_ylim(bottom=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=max(len(labels), 1), frameon=False, fontsize=9)
    figure.supxlabel("line: mean over seeds; band: lowest to highest seed", fontsize=9)
    return figure


@own_style
def reliability(diagrams: Mapping[str, Sequence[Mapping[str, Any]]], ece: Mapping[str, str]) -> Figure:
    """Accuracy by confidence, a column a method, the images of all seeds together; below, how many images a bin holds.

    `diagrams` maps a method to what `evaluation.calibration` found at each seed, `ece` to the number in the title.
    """
    figure = Figure(figsize=(1.0 + 2.8 * len(diagrams), 4.6), layout="constrained")
    grid = figure.subplots(2, len(diagrams), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (above, below), (method, found) in zip(grid.T, diagrams.items(), strict=True):
        colour, _ = style(method, list(diagrams))
        title = f"{naming.method_name(method)}\nECE {ece[method]}"
        above.plot([0, 100], [0, 100], color="#222222", lw=1.0, ls="--", zorder=3)
        above.set_xlim(0, 100)
        above.set_ylim(0, 100)
        if found:
            counts = np.array([diagram["counts"] for diagram in found])
            weights = counts / np.maximum(counts.sum(0), 1)
            accuracy, confidence = (
                (np.array([d[name] for d in found], dtype=float, copy=True) * weights)
                for name in ("accuracy", "confidence")
            )
            height, mean = np.nansum(accuracy, 0), np.nansum(confidence, 0)
            edges = np.linspace(0, 100, counts.shape[1] + 1)
            filled = counts.sum(0) > 0
            bins = {"align": "edge", "width": 100 / counts.shape[1]}
            above.bar(edges[:-1][filled], height[filled], color=colour, edgecolor="white", lw=0.5, **bins)
            gap = (mean - height)[filled]
            outline = {"fill": False, "hatch": "////", "edgecolor": "#222222"}
            above.bar(edges[:-1][filled], gap, bottom=height[filled], lw=0.6, **outline, **bins)
            below.bar(edges[:-1], 100 * counts.sum(0) / counts.sum(), color=colour, edgecolor="white", lw=0.5, **bins)
        _plain(above, title)
        _plain(below, "")
        below.set_xlabel("confidence (%)")
    grid[0][0].set_ylabel("accuracy (%)")
    grid[1][0].set_ylabel("images (%)")
    legend = [
        Patch(facecolor="#999999", label="accuracy"),
        Patch(fill=False, hatch="////", edgecolor="#222222", label="distance to the mean confidence"),
        Line2D([], [], color="#222222", ls="--", lw=1.0, label="calibrated"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(f"images of all seeds together; ECE: {measure('ece').better}", fontsize=9)
    return figure


@own_style
def embeddings(pictures: Mapping[str, Mapping[str, Any] | None], numbers: Mapping[str, Mapping[str, str]]) -> Figure:
    """t-SNE of every stage, a column a method, a row a stage; below each picture what holds in the space itself.

    `pictures` maps a method to the picture of the analysis `tsne` of one run, `numbers` maps it to a text a stage.
    """
    known = [picture for picture in pictures.values() if picture]
    stages = list(known[0]["points"]) if known else []
    figure = Figure(figsize=(1.0 + 2.6 * len(pictures), 1.0 + 2.7 * max(len(stages), 1)), layout="constrained")
    if not known:
        figure.text(0.5, 0.5, "no run is analysed", ha="center", va="center")
        return figure
    grid = figure.subplots(len(stages), len(pictures), squeeze=False)
    for column, (method, picture) in enumerate(pictures.items()):
        for row, stage in enumerate(stages):
            axes = grid[row][column]
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(naming.method_name(method), fontsize=10)
            if column == 0:
                axes.set_ylabel(f"stage {stage}")
            if picture is None:
                axes.text(0.5, 0.5, "not analysed", ha="center", va="center", transform=axes.transAxes)
                continue
            axes.set_xlabel(numbers[method][stage], fontsize=8)
            _scatter(axes, np.array(picture["points"][stage]), np.array(picture["labels"]))
    for index, name in enumerate(known[0]["classes"]):
        colour, marker = _of_class(index)
        grid[0][0].plot([], [], color=colour, marker=marker, ls="none", ms=5, label=name.replace("_", " "))
    better = measure("knn_stage1").better
    figure.suptitle(f"numbers below the pictures, of the features themselves: {better}", fontsize=9)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8, columnspacing=1.0, handletextpad=0.2)
    return figure


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray) -> None:
    for index in np.unique(labels):
        colour, marker = _of_class(int(index))
        x, y = points[labels == index].T
        axes.plot(x, y, color=colour, marker=marker, ls="none", ms=3.4, mew=0)
    axes.margins(0.05)


def _of_class(index: int) -> tuple[str, str]:
    return _CLASSES[index % len(_CLASSES)]


# Colour and marker of ten classes; those of colours that are near each other have markers that are not.
_CLASSES = (
    *(("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v")),
    *(("#56B4E9", "P"), ("#000000", "X"), ("#6A51A3", "<"), ("#7A8B00", ">"), ("#8C6D31", "h")),
)
