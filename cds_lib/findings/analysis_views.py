"""What the notebooks of the analyses show besides the views of every table; see `views`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import HTML, SVG

from cds_lib.findings import analysis_figures
from cds_lib.reporting import formats, html, naming
from cds_lib.reporting.views import save_and_show
from cds_lib.study import analyses, statistics
from cds_lib.study.measures import at_a_layer, measure
from cds_lib.study.table import Cell

if TYPE_CHECKING:
    from cds_lib.session import Session


def findings(study: Session) -> HTML:
    """What the differences to the baseline add up to over the layers, a sentence a measure and method."""
    return HTML(html.bullets(findings_of(study.frame())))


def findings_of(frame: pd.DataFrame) -> list[str]:
    """The same as plain text: at how many layers the 95 % interval of the paired difference excludes zero."""
    if frame["profile"].iloc[0] == "smoke":
        return ["Smoke profile: these differences mean nothing."]
    rows = frame.assign(measure=[at_a_layer(metric)[0] for metric in frame["metric"]])
    found = []
    for (_, method), part in rows[rows["baseline_delta"].notna()].groupby(["measure", "method"], sort=False):
        measured = part[part["n_pairs"] >= statistics.MIN_SEEDS]
        title = f"{measure(part['metric'].iloc[0]).short}, {naming.method_name(method)}: "
        if measured.empty:
            found.append(f"{title}fewer than {statistics.MIN_SEEDS} seeds, which decide nothing.")
            continue
        above, below = (measured["ci_low"] > 0).sum(), (measured["ci_high"] < 0).sum()
        found.append(
            f"{title}of {len(measured)} layers, {above} clearly above the baseline, {below} clearly below, "
            f"{len(measured) - above - below} undecided."
        )
    if not found:
        return ["Nothing can be compared yet."]
    return [
        *found,
        "Clearly: the 95 % interval of the paired difference excludes zero, with no correction for how many there are.",
    ]


def by_layer(study: Session) -> SVG:
    """Every measure of the table against the depth; written to RESULTS/figures/<table>.svg."""
    description = (
        "Each measure of the table against the depth of the layer, one panel per measure, one line per method."
    )
    return save_and_show(study, analysis_figures.by_layer(study.frame()), description)


def loss_and_accuracy(study: Session) -> SVG:
    """Training loss beside test accuracy; written to RESULTS/figures/<table>.svg."""
    histories = {
        method: [study.store.history(spec.id) for spec in cell.specs if study.store.is_done(spec.id)]
        for method, cell in _cells(study).items()
    }
    description = "Left: training cross-entropy against the epoch. Right: test accuracy. One line per method."
    return save_and_show(study, analysis_figures.loss_and_accuracy(histories), description)


def reliability(study: Session) -> SVG:
    """Reliability diagrams; written to RESULTS/figures/<table>.svg."""
    found = {method: list(_results(study, cell).values()) for method, cell in _cells(study).items()}
    diagrams = {method: [result["diagram"] for result in results] for method, results in found.items()}
    rows = study.frame().query("metric == 'ece'").set_index("method")
    ece = {method: _number(rows.loc[method], " %") for method in diagrams}
    description = "Accuracy against confidence in bins, one panel per method, with the share of images in every bin."
    return save_and_show(study, analysis_figures.reliability(diagrams, ece), description)


def embeddings(study: Session) -> SVG:
    """t-SNE pictures of the first seed that every method has; written to RESULTS/figures/<table>.svg."""
    results = {method: _results(study, cell) for method, cell in _cells(study).items()}
    common = sorted(set.intersection(*(set(found) for found in results.values())))
    chosen = {method: found.get(common[0]) if common else None for method, found in results.items()}
    numbers = {
        method: {
            stage: f"k-NN {result['values'][f'knn_stage{stage}']:.1f} %, "
            f"silhouette {formats.signed(result['values'][f'silhouette_stage{stage}'])}"
            for stage in result["picture"]["points"]
        }
        for method, result in chosen.items()
        if result
    }
    pictures = {method: result and result["picture"] for method, result in chosen.items()}
    description = "Points of ten classes in the plane, one column per method, one row per stage, with k-NN accuracy."
    return save_and_show(study, analysis_figures.embeddings(pictures, numbers), description)


def _cells(study: Session) -> dict[str, Cell]:
    """The first cell of every method."""
    found: dict[str, Cell] = {}
    for cell in study.table.cells(study.profile, study.seeds):
        found.setdefault(cell.method, cell)
    return found


def _results(study: Session, cell: Cell) -> dict[int, dict[str, Any]]:
    """Seed -> the result of the cell's analysis, of the finished runs that have one."""
    found = {
        spec.seed: analyses.read(study.store, spec.id, cell.source)
        for spec in cell.specs
        if study.store.is_done(spec.id)
    }
    return {seed: result for seed, result in found.items() if result}


def _number(row: pd.Series, unit: str) -> str:
    """`12.31 ± 0.20 % (n = 3)`."""
    if row["n"] == 0:
        return "not run"
    decimals = measure(row["metric"]).decimals
    deviation = "" if pd.isna(row["std"]) else f" ± {row['std']:.{decimals}f}"
    return f"{row['mean']:.{decimals}f}{deviation}{unit} (n = {row['n']})"
