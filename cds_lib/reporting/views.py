"""What a notebook shows: one call a cell, each returning something Jupyter displays, and saving it to RESULTS."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML, SVG
from matplotlib.figure import Figure

from cds_lib.reporting import cost, figures, formats, naming, report
from cds_lib.study import published

if TYPE_CHECKING:
    from cds_lib.session import Session

# What the poster's headings measure, in words.
_MEASURES = {
    "top1": "top-1",
    "top5": "top-5",
    "top1_percent": "top-1",
    "batch_size": "batch",
    "autoaugment": "AutoAugment",
    "ece_percent": "ECE, %",
    "final_cross_entropy": "training cross-entropy at the end",
    "AP_S": "AP small",
    "AP_M": "AP medium",
    "AP_L": "AP large",
}


def published_table(table_id: str) -> HTML:
    """A table of the paper as published, the longer side downwards, with the source of its numbers."""
    down, across = published.columns(table_id), published.rows(table_id)
    transposed = len(across) > len(down)
    if transposed:
        down, across = across, down

    def cell(row: str, column: str) -> str:
        text = published.printed(table_id, *((row, column) if transposed else (column, row)))
        return f'<td class="number">{formats.EMPTY if text is None else text}</td>'

    head = "".join(f'<th scope="col">{escape(_heading(name))}</th>' for name in across)
    body = "".join(
        f'<tr><th scope="row">{escape(_heading(row))}</th>' + "".join(cell(row, column) for column in across) + "</tr>"
        for row in down
    )
    # Of two tables that look alike, the data set that ends their names tells them apart.
    title = next((escape(text) for name, text in naming.DATASETS.items() if table_id.endswith(f"_{name}")), "")
    caption = f"<caption>{title}, published</caption>" if title else ""
    inner = f"<table>{caption}<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    label = f"published numbers, {table_id.replace('_', ' ')}"
    source = f"<figcaption>Source: {escape(published.source(table_id))}.</figcaption>"
    return HTML(f'<figure class="table">{formats.scrolling(inner, label)}{source}</figure>')


def _heading(name: str) -> str:
    """How a row or column of a published table is called: `top1_resnet18` is `top-1, ResNet-18`, `dsn` is `DSN`."""
    for prefix in published.PREFIXES:
        if name.startswith(prefix) and name not in _MEASURES:
            measure = prefix.removesuffix("_")
            return f"{_MEASURES.get(measure, naming.name_of(measure))}, {_heading(name.removeprefix(prefix))}"
    if name in naming.METHODS or name in published.METHODS.values():
        return naming.method_name(name)
    return _MEASURES.get(name, naming.name_of(name))


def plan(study: Session) -> HTML:
    """What the profile runs, and how much of it is there at this moment."""
    seeds = dict.fromkeys(spec.seed for spec in study.table.runs(study.profile, study.seeds))
    state = f"{'Seeds' if len(seeds) > 1 else 'Seed'}: {', '.join(map(str, seeds))}. {study.plan().describe()}."
    return HTML(f"<p>{escape(study.table.describe(study.profile))}</p><p>{escape(state)}</p>")


def table(study: Session) -> HTML:
    """The result; written to RESULTS/tables as csv, Markdown and LaTeX."""
    frame = study.frame()
    report.write_table(frame, study.table, study.store.root)
    return HTML(formats.html_table(frame, study.table))


def conclusion(study: Session) -> HTML:
    """What the verdicts add up to, in words."""
    return HTML(formats.bullets(report.conclusion(study.frame())))


def costs(study: Session) -> HTML:
    """What each method's training takes beside the baseline's, in one sentence."""
    return HTML(formats.bullets([cost.sentence(study.table, study.profile)]))


def gains(study: Session) -> SVG:
    """The differences to the baseline beside the published ones; written to RESULTS/figures/<table>.svg."""
    description = "Difference to the baseline of every network, in percentage points, beside the published difference."
    return save_and_show(study, figures.gains(study.frame()), description)


def accuracy_curves(study: Session) -> SVG:
    """Test accuracy (AP of detectors) by epoch; written to RESULTS/figures/<table>_accuracy.svg."""
    cells = study.table.cells(study.profile, study.seeds)
    keys = {cell.key for cell in cells}
    # Where no method occurs twice, as in distillation, settings stand side by side: the baseline has another one.
    apart = ("dataset", "model") if len({key[:3] for key in keys}) == len(keys) else ("dataset", "model", "setting")
    varying = [name for name in apart if len({getattr(cell, name) for cell in cells}) > 1]
    histories: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for cell in cells:
        group = naming.group_title(getattr(cell, name) for name in varying or ["model"])
        finished = [study.store.history(spec.id) for spec in cell.specs if study.store.is_done(spec.id)]
        histories.setdefault(group, {})[cell.method] = finished
    detection = cells[0].metric == "test_ap_last"
    column, label = ("test_ap", "AP (%)") if detection else ("test_top1", "test top-1 accuracy (%)")
    description = "Test accuracy against the epoch, one panel per group of rows, one line per method."
    return save_and_show(study, figures.accuracy_curves(histories, column, label), description, "accuracy")


def accuracy_by_fraction(study: Session) -> SVG:
    """Test accuracy by labelled percentage; written to RESULTS/figures/<table>.svg."""
    description = (
        "Published test accuracies against the percentage of labelled images, below them ours, and below those our "
        "differences to the baseline with their 95 % intervals; one column per data set, one line per method."
    )
    return save_and_show(study, figures.accuracy_by_fraction(study.frame()), description)


def save_and_show(study: Session, figure: Figure, description: str, kind: str = "") -> SVG:
    """Save the figure and return it; the description is what a screen reader says.

    A table's main plot has the table's name; `kind` is added to the names of the others.
    """
    name = f"{study.table.name}_{kind}" if kind else study.table.name
    path = figures.save_svg(figure, study.store.root / "figures" / f"{name}.svg", description)
    return SVG(path.read_text(encoding="utf-8"), metadata={"alt": description})
