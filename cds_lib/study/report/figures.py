"""Figures in one style, written as SVG files that are the same bytes every time."""

import io
import textwrap
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from IPython.display import SVG
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cds_lib.study.errors import in_one_line
from cds_lib.study.files import write_text
from cds_lib.study.plan.catalogue import METHODS
from cds_lib.study.plan.rematch import OUTCOME, PRIMARY
from cds_lib.study.report.comparisons import CONTROL
from cds_lib.study.report.frame import CELL, paired
from cds_lib.study.report.naming import name_of
from cds_lib.study.statistics import t_interval
from cds_lib.study.tables import TABLES

# For methods without a colour of their own, in this order. Colours of other methods in the figure are skipped.
_OTHERS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#6A51A3", "#7A8B00", "#000000", "#8C6D31")
_DIAMOND = {"marker": "D", "s": 55, "fc": "none", "ec": "#c05000", "linewidth": 1.6, "legend": False, "zorder": 3}
_SEED = {"color": "#9db7d5", "size": 5, "edgecolor": "white", "linewidth": 0.6, "zorder": 1}
OURS, PAPER = "#1f4e8c", "#c05000"  # in plots that compare the two
# In dark mode: white becomes nearly black and hues stay; images inside the figure are inverted back.
_DARK = """<style>@media (prefers-color-scheme: dark) {
  #figure_1 { filter: invert(0.9) hue-rotate(180deg); }
  #figure_1 image { filter: invert(1) hue-rotate(180deg); }
}</style>
"""
WIDTH = 5.6  # inches, so that text stays readable on a phone
_STYLE = {
    "figure.figsize": (WIDTH, 3.6),
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 10),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right"), False),
    "text.parse_math": False,  # a dollar sign in a class name is not a formula
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}


def theme() -> None:
    """Set seaborn's style for a notebook, and print errors of the study and interrupts as one line."""
    in_one_line()
    mpl.rcdefaults()  # ignore the user's matplotlibrc
    sns.set_theme(style="whitegrid", rc=_STYLE)


def forest(rows: pd.DataFrame, y: str, label: str) -> Figure:
    """Draw a forest plot of the rows of `frame.paired`, one line per value of the column `y`: every seed in pale, the
    mean with its 95 % interval, the published difference as a diamond, and n. label: of the x axis, with the unit."""
    lines = rows.groupby(y, sort=False, observed=True)
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.3 + 0.42 * max(lines.ngroups, 1)))
    rows = rows.assign(**{y: [textwrap.fill(str(name), 24, break_on_hyphens=False) for name in rows[y]]})
    sns.stripplot(rows, x="difference", y=y, jitter=False, **_SEED, ax=axes)
    sns.pointplot(rows, x="difference", y=y, errorbar=t_interval, linestyle="none", color=OURS, markersize=6, ax=axes)
    axes.plot([], [], "o-", color=OURS, label="this study: mean, 95 % interval; pale: a seed")
    if rows["published"].notna().any():
        sns.scatterplot(rows, x="published", y=y, **_DIAMOND, ax=axes)
        axes.plot([], [], "D", mfc="none", mec=PAPER, mew=1.6, label="published")
    for place, (_, line) in enumerate(lines):
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9.5}
        axes.annotate(f"n = {line['difference'].notna().sum()}", (1.01, place), **beside)
    axes.axvline(0, color="#444444", lw=1)
    axes.set(xlabel=label, ylabel="")
    figure.legend(loc="outside upper left")
    return figure


KEY = (
    "Top-1 of CDS minus that of the baseline, DSN, DKS, DHM and the two-view control, ResNet-18 on CIFAR-100: a point "
    "per seed, the mean with its 95 % interval, the published difference as a diamond. Below: the rematch, CDS with "
    "the cross-entropy of both views minus that control, both tuned by one rule, on all unseen images."
)
_AGAINST = {"baseline": "baseline", "dsn": "DSN", "dks": "DKS", "dhm": "DHM", CONTROL: "control: baseline, two views"}


def key_figure(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the figure of README, index and article (see KEY) from the frames of `frame.every_result`."""
    frame = pd.concat([frames["table1_cifar100"], frames["deviations"]])[[*CELL, "run", "seed", "value", "paper"]]
    frame = frame.query("dataset == 'cifar100' and model == 'resnet18' and setting == 'supervised'")
    frame = frame.drop_duplicates(["run", "method"])
    rows = [paired(frame, method).query("method == 'cds'").assign(against=name) for method, name in _AGAINST.items()]
    ours, control = PRIMARY
    rematch = frames["rematch"].query("setting == 'rematch'")
    rematch = paired(rematch[rematch["metric"] == OUTCOME], control).query(f"method == '{ours}'")
    rows.append(rematch.assign(against="rematch, unseen images: CDS with both views minus its control"))
    theme()
    return forest(pd.concat(rows, ignore_index=True), "against", "top-1 of CDS minus that of …, points")


def legend_above(plot: Axes | sns.FacetGrid, columns: int) -> None:
    """Move the legend of a plot, if it has one, above the whole figure."""
    legend = plot.legend if isinstance(plot, sns.FacetGrid) else plot.get_legend()
    if legend:
        labels = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        plot.figure.set_figheight(plot.figure.get_figheight() + 0.27 * -(-len(labels) // columns))
        plot.figure.legend(legend.legend_handles, labels, loc="outside upper left", ncols=columns)


def save(figure: Figure, path: Path | None, description: str) -> SVG:
    """Write the figure to `path` (None: to no file) and return the SVG that a notebook shows; text stays text.

    description: text for screen readers.
    """
    text = svg(figure, description)
    pyplot.close(figure)  # otherwise the notebook shows it a second time
    if path is not None:
        write_text(Path(path), text)

    class Shown(SVG):
        def __repr__(self) -> str:  # JupyterLab shows no figure of a notebook that it does not trust
            return f"Figure: {description} JupyterLab shows it once the notebook is trusted or has been run."

    return Shown(text, metadata={"alt": description})


def svg(figure: Figure, description: str) -> str:
    """Return the figure as SVG, the same bytes every time, with a style for dark mode."""
    text = io.StringIO()
    figure.set_layout_engine("constrained")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cds_lib"}):
        figure.savefig(text, format="svg", dpi=100, metadata={"Date": None, "Title": description})
    return text.getvalue().replace('<g id="figure_1">', _DARK + ' <g id="figure_1">', 1)


def palette(methods: Iterable[str]) -> dict[str, str]:
    """Return display name -> colour of these methods, for seaborn's `palette` with `hue`. A method with a colour in the
    catalogue or a table has it in every figure; the others take free colours in order."""
    every = list(dict.fromkeys(methods))
    own = {row: colour for table in TABLES.values() for row, colour in table.colours.items()}
    own |= {name: method.colour for name, method in METHODS.items() if method.colour}
    taken = {own.get(method) for method in every}
    free = cycle(colour for colour in _OTHERS if colour not in taken)
    return {name_of(method): own.get(method) or next(free) for method in every}
