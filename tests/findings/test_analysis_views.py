"""The plots of the analyses show their numbers, are the same bytes every time, and survive missing runs."""

from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest

from cds_lib.findings import analysis_figures, analysis_views
from cds_lib.reporting import figures
from cds_lib.study.tables import _headline

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = ("linear_probe", "layerwise_accuracy", "calibration", "training_loss", "tsne")


def layers(**changes):
    rows = [
        {"metric": f"{name}_{block}", "method": method, "n": 2, "mean": 10.0 * place + index, "std": 0.5}
        for name in ("probe_top1", "invariance")
        for place, block in enumerate(_headline.BLOCKS)
        for index, method in enumerate(("baseline", "cds"))
    ]
    return pd.DataFrame(rows).assign(**changes)


def diagram(counts, accuracy):
    confidence = [90.0 if n else None for n in counts]
    return {"counts": counts, "accuracy": accuracy, "confidence": confidence, "top1": 50.0}


def picture(shift=0.0):
    points = [[float(i) + shift, float(i % 3)] for i in range(20)]
    labels = [i % 10 for i in range(20)]
    return {"classes": list("abcdefghij"), "labels": labels, "points": {"1": points, "2": points}}


def history(*losses):
    return pd.DataFrame({"epoch": range(1, len(losses) + 1), "train_cross_entropy": losses, "test_top1": 10.0})


def draw(name):
    ece = {"baseline": "12.00 % (n = 2)", "cds": "not run"}
    numbers = {"baseline": {"1": "k-NN 50.0 %", "2": "k-NN 60.0 %"}}
    if name == "layers":
        return analysis_figures.by_layer(layers())
    if name == "reliability":
        return analysis_figures.reliability({"baseline": [diagram([0, 4], [None, 50.0])], "cds": []}, ece)
    if name == "curves":
        return analysis_figures.loss_and_accuracy({"baseline": [history(3, 2), history(4, 2)], "cds": []})
    return analysis_figures.embeddings({"baseline": picture(), "cds": None}, numbers)


@pytest.mark.parametrize("name", ["layers", "reliability", "curves", "embeddings"])
def test_the_same_numbers_are_the_same_bytes(name):
    first, second = (figures.svg_text(draw(name)) for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)


def test_a_panel_a_measure_and_a_line_a_method():
    figure = analysis_figures.by_layer(layers())
    probe, invariance = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["linear probe: higher is better", "invariance"]
    assert [text.get_text() for text in probe.get_xticklabels()] == list(_headline.BLOCKS)
    lines = [line for line in probe.lines if len(line.get_xdata()) == 8 and line.get_marker() != "_"]
    assert [list(line.get_ydata()) for line in lines] == [[10.0 * p + i for p in range(8)] for i in range(2)]
    assert lines[0].get_color() != lines[1].get_color() and lines[0].get_marker() != lines[1].get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline (n = 2)", "CDS (n = 2)"]
    assert (probe.get_ylabel(), invariance.get_ylabel()) == ("test top-1 (%)", "cosine similarity")


def test_runs_that_are_missing_leave_gaps():
    rows = layers()
    rows.loc[rows["method"] == "cds", ["n", "mean", "std"]] = [0, np.nan, np.nan]
    texts = [text.get_text() for text in analysis_figures.by_layer(rows).legends[0].get_texts()]
    assert texts == ["baseline (n = 2)", "CDS (n = 0)"]
    (text,) = analysis_figures.embeddings({"baseline": None}, {}).texts
    assert text.get_text() == "no run is analysed"


def test_seeds_are_pooled_in_a_reliability_diagram():
    found = [diagram([0, 4], [None, 50.0]), diagram([1, 12], [0.0, 100.0])]
    above, below = analysis_figures.reliability({"baseline": found}, {"baseline": "5 %"}).axes
    bars = [(bar.get_x(), bar.get_height()) for bar in above.patches[:2]]
    assert bars == [(0, 0), (50, pytest.approx((4 * 50 + 12 * 100) / 16))]
    gaps = [(bar.get_y(), bar.get_height()) for bar in above.patches[2:]]
    assert gaps[1] == (pytest.approx(87.5), pytest.approx(90 - 87.5))
    assert [bar.get_height() for bar in below.patches] == [pytest.approx(100 / 17), pytest.approx(1600 / 17)]
    assert above.get_title() == "baseline\nECE 5 %"


def test_findings_count_the_layers_that_differ():
    rows = layers(profile="mini", baseline_delta=np.nan, ci_low=np.nan, ci_high=np.nan, n_pairs=3)
    cds = rows["method"] == "cds"
    rows.loc[cds, ["baseline_delta", "ci_low", "ci_high"]] = [1.0, -1.0, 3.0]
    rows.loc[cds & (rows["metric"] == "probe_top1_1.1"), ["ci_low", "ci_high"]] = [0.5, 1.5]
    rows.loc[cds & (rows["metric"] == "probe_top1_4.2"), ["ci_low", "ci_high"]] = [-2.0, -0.5]
    rows.loc[cds & rows["metric"].str.startswith("invariance"), ["ci_low", "ci_high", "n_pairs"]] = [0.5, 1.5, 2]
    probe, invariance, rule = analysis_views.findings_of(rows)
    assert probe == "linear probe, CDS: of 8 layers, 1 clearly above the baseline, 1 clearly below, 6 undecided."
    assert invariance == "invariance, CDS: fewer than 3 seeds, which decide nothing."
    assert "no correction" in rule
    assert analysis_views.findings_of(rows.assign(baseline_delta=np.nan)) == ["Nothing can be compared yet."]
    assert "mean nothing" in analysis_views.findings_of(rows.assign(profile="smoke"))[0]


def test_ten_classes_look_different():
    assert len({analysis_figures._of_class(index) for index in range(10)}) == 10


def test_every_picture_has_its_number():
    axes = draw("embeddings").axes
    assert [a.get_xlabel() for a in axes] == ["k-NN 50.0 %", "", "k-NN 60.0 %", ""]
    assert [a.get_title() for a in axes[:2]] == ["baseline", "CDS"]
    assert [text.get_text() for text in axes[1].texts] == ["not analysed"]


@pytest.mark.parametrize("name", NAMES)
def test_the_notebooks_cells_run_without_any_run_and_promise_the_files_they_write(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    names = {"display": lambda *objects: None}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"results": str(tmp_path), "train": False, "profile": "mini"}
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 4
    for path in written:
        promise = path.suffix if path.suffix in (".md", ".tex") else str(path)
        assert f"`{promise}`" in notebook.cells[0].source
