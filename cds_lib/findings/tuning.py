"""What the notebook of the search shows: validation accuracy against each candidate, what it chose and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML, SVG
from matplotlib.figure import Figure

from cds_lib.findings import comparisons
from cds_lib.reporting import figures, html, naming, report, views
from cds_lib.study import catalogue, protocols, statistics
from cds_lib.study.report.own_style import own_style
from cds_lib.study.table import TOP1
from cds_lib.study.tables import tuning
from cds_lib.text import duration

if TYPE_CHECKING:
    from cds_lib.session import Session


def best(frame: pd.DataFrame) -> dict[str, float]:
    """Method -> the candidate with the highest validation accuracy, of the methods whose candidates all have run."""
    found = {}
    accuracy = frame.set_index("method")["mean"]
    for method, (_, values) in tuning.SEARCHED.items():
        rows = accuracy[[tuning.row_name(method, value) for value in values]]
        if rows.notna().all():
            found[method] = values[int(rows.to_numpy().argmax())]
    return found


def frozen(profile: str) -> dict[str, float]:
    """Method -> the value that the profile trains with."""
    budget = protocols.budget(profile, "cifar", tuning.MODEL)
    return {
        method: budget.lr if option == "lr" else catalogue.options(profile, "cifar", method)[option]
        for method, (option, _) in tuning.SEARCHED.items()
    }


def search(study: Session) -> SVG:
    """Validation accuracy against every candidate; written to RESULTS/figures/<table>.svg."""
    description = "Validation accuracy against the learning rate of the baseline, and against the weight of the others."
    return views.save_and_show(study, _figure(study.frame(), frozen(study.profile)), description)


@own_style
def _figure(frame: pd.DataFrame, used: dict[str, float]) -> Figure:
    """A panel for the learning rate, one for the weights, and one for those searched with a part of the labels; a ring
    marks what the profile trains with."""
    accuracy = frame.set_index("method")["mean"]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    ring = {"marker": "o", "mfc": "none", "ms": 12, "mew": 1.4, "ls": "none"}
    panels = dict(zip(("lr", "weight", "few labels"), figure.subplots(1, 3, width_ratios=(2, 3, 2)), strict=True))
    panels["weight"].sharey(panels["lr"])
    for method, (option, values) in tuning.SEARCHED.items():
        panel = panels["few labels" if tuning.default_run("mini", method, 0).labelled else option]
        colour, marker = figures.style(method, list(tuning.SEARCHED))
        means = [accuracy[tuning.row_name(method, value)] for value in values]
        if pd.isna(means).all():
            continue
        panel.plot(values, means, ms=5, label=naming.method_name(method), color=colour, marker=marker)
        if used[method] in values:
            panel.plot(used[method], means[values.index(used[method])], mec=colour, **ring)
    panels["lr"].plot([], [], mec="#444444", label="the profile's own", **ring)
    for name, axes in panels.items():
        option = "lr" if name == "lr" else "weight"
        ticks = sorted({value for other, values in tuning.SEARCHED.values() if other == option for value in values})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.set_xlabel("learning rate" if option == "lr" else "weight of what the method adds")
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
        axes.set_title("all labels" if name != "few labels" else f"{tuning.LABELLED_PERCENT} % labelled", fontsize=10)
    panels["lr"].set_ylabel("validation top-1 accuracy (%)\nhigher is better")
    if frame["profile"].iloc[0] == "smoke":
        figure.suptitle("smoke profile: these points mean nothing", fontsize=10)
    return figure


def conclusion(study: Session) -> HTML:
    """What won, what the profile trains with, and what the search cost, in words."""
    frame = study.frame()
    sentences = report.state(frame)
    if study.profile != "smoke":
        used = frozen(study.profile)
        for method, value in best(frame).items():
            option = "learning rate" if tuning.SEARCHED[method][0] == "lr" else "weight"
            same = "as the profile has it" if used[method] == value else f"while the profile has {used[method]:g}"
            values = tuning.SEARCHED[method][1]
            edge = ", at the edge of what was tried" if value in (values[0], values[-1]) else ""
            sentences.append(f"{naming.method_name(method)}: best at {option} {value:g}{edge}, {same}.")
            if method == "cds" and used[method] == value:
                sentences += _beyond(study, value)
    seconds = [study.store.metric(run, "seconds") for runs in frame["runs"] for run in runs.split()]
    if seconds:
        sentences.append(f"The search took {duration(sum(seconds))} of training, runs counted one by one.")
    return HTML(html.bullets(sentences))


def _beyond(study: Session, weight: float) -> list[str]:
    """Where the best weight of CDS is at the edge of what was tried: what the switch of `deviations` beyond it gave."""
    _, values = tuning.SEARCHED["cds"]
    beyond = {values[0]: "cds_weight_third", values[-1]: "cds_weight_triple"}
    if weight not in beyond:
        return []
    cells = comparisons.headline_cells(study.profile, study.seeds)
    ours, chosen = (report.by_seed(cells[row], TOP1, study.store) for row in (beyond[weight], "cds"))
    opening = f"CDS beyond that edge, at weight {cells[beyond[weight]].specs[0].options['weight']:g}, is a switch of"
    if not ours.keys() & chosen.keys():
        return [f"{opening} deviations, which was not run."]
    found = statistics.paired_difference(ours, chosen)
    return [
        f"{opening} deviations: test accuracy minus that of weight {weight:g}: {comparisons.interval(found)} "
        f"(n = {found.n}; tried after the choice)."
    ]
