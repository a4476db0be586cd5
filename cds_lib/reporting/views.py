"""What a notebook shows: one call a cell, each returning something Jupyter displays, and saving it to RESULTS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML, SVG
from matplotlib.figure import Figure

from cds_lib.reporting import cost, figures, formats, html, naming, printed, report
from cds_lib.study import published
from cds_lib.study.catalogue import DATASETS

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

    def cell(row: str, column: str) -> html.Cell:
        text = published.printed(table_id, *((row, column) if transposed else (column, row)))
        return html.Cell(formats.EMPTY if text is None else text, "number")

    head = [html.Cell(""), *(html.Cell(_heading(name)) for name in across)]
    rows = [html.row(_heading(row), [cell(row, column) for column in across]) for row in down]
    # Of two tables that look alike, the data set that ends their names tells them apart.
    title = next((entry.title for name, entry in DATASETS.items() if table_id.endswith(f"_{name}")), "")
    caption = html.Cell(f"{title}, published") if title else None
    table = html.table(head, [rows], f"published numbers, {table_id.replace('_', ' ')}", caption)
    return HTML(html.figure(table, f"Source: {published.source(table_id)}."))


def _heading(name: str) -> str:
    """How a row or column of a published table is called: `top1_resnet18` is `top-1, ResNet-18`, `dsn` is `DSN`."""
    for prefix in published.PREFIXES:
        if name.startswith(prefix) and name not in _MEASURES:
            measure = prefix.removesuffix("_")
            return f"{_MEASURES.get(measure, naming.name_of(measure))}, {_heading(name.removeprefix(prefix))}"
    return _MEASURES.get(name, naming.name_of(name))


def plan(study: Session) -> HTML:
    """What the profile runs, and how much of it is there at this moment."""
    seeds = dict.fromkeys(spec.seed for spec in study.table.runs(study.profile, study.seeds))
    state = f"{'Seeds' if len(seeds) > 1 else 'Seed'}: {', '.join(map(str, seeds))}. {study.plan().describe()}."
    return HTML(html.paragraphs([study.table.describe(study.profile), state]))


def table(study: Session) -> HTML:
    """The result; written to RESULTS/tables as csv, Markdown and LaTeX."""
    frame = study.frame()
    report.write_table(frame, study.table, study.store.root)
    return HTML(printed.html_table(frame, study.table))


def conclusion(study: Session) -> HTML:
    """What the verdicts add up to, in words."""
    return HTML(html.bullets(report.conclusion(study.frame())))


def costs(study: Session) -> HTML:
    """What each method's training took beside the baseline's, in one sentence; nothing before any has finished."""
    return HTML(html.bullets(filter(None, [cost.sentence(study.results())])))


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
