"""Figures show what is in the table, are the same bytes every time, and survive missing runs."""

import ast
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

import cds_lib
from cds_lib.findings import analysis_figures
from cds_lib.reporting import figures, report, verdicts
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES, official


def frame(profile="mini", **changes):
    rows = [
        {"model": "resnet18", "method": "baseline", "n": 3, "baseline_delta": np.nan, "paper_delta": np.nan},
        {"model": "resnet18", "method": "dsn", "n": 3, "baseline_delta": 1.0, "paper_delta": 0.85},
        {"model": "resnet18", "method": "cds", "n": 1, "baseline_delta": 2.0, "paper_delta": 3.39},
        {"model": "resnet50", "method": "baseline", "n": 0, "baseline_delta": np.nan, "paper_delta": np.nan},
        {"model": "resnet50", "method": "dsn", "n": 0, "baseline_delta": np.nan, "paper_delta": 1.15},
        {"model": "resnet50", "method": "cds", "n": 0, "baseline_delta": np.nan, "paper_delta": np.nan},
    ]
    interval = {"ci_low": [np.nan, 0.5, np.nan, np.nan, np.nan, np.nan]}
    interval["ci_high"] = [np.nan, 1.5, np.nan, np.nan, np.nan, np.nan]
    names = {"dataset": "cifar100", "setting": "supervised", "metric": "test_top1_last", "profile": profile}
    return pd.DataFrame(rows).assign(**names, **interval, n_pairs=[0, 3, 1, 0, 0, 0])


def history(*accuracies):
    return pd.DataFrame({"epoch": range(1, len(accuracies) + 1), "test_top1": accuracies})


def points(axes, filled):
    """x of every marker that stands for a difference."""
    found = []
    for line in axes.lines:
        if line.get_marker() not in ("None", None, "") and len(line.get_xdata()) == 1:
            hollow = line.get_markerfacecolor() == "none"
            found += [] if hollow == filled else list(line.get_xdata())
    return found


def test_gains_show_ours_filled_and_the_papers_hollow():
    axes = figures.gains(frame()).axes[0]
    assert points(axes, filled=True) == [1.0, 2.0]
    assert points(axes, filled=False) == [0.85, 3.39]
    bars = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2 and line.get_lw() > 1]
    assert bars == [[0.5, 1.5]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["DSN", "CDS"]  # of the only network with runs
    assert [text.get_text() for text in axes.texts] == ["n = 3", "n = 1"]
    assert axes.get_title() == ""


def test_gains_count_the_published_differences_that_have_no_run():
    first, second = figures.gains(frame()).get_supxlabel().splitlines()
    assert first == "ResNet-18: difference of top-1 to the baseline (percentage points; higher is better)"
    assert second == "Not shown: 1 of 3 published differences, which have no runs here yet."
    (line,) = figures.gains(frame().head(3)).get_supxlabel().splitlines()
    assert line == first


def test_before_any_run_the_published_differences_stand_alone():
    nothing = frame().assign(baseline_delta=np.nan, ci_low=np.nan, ci_high=np.nan, n=0, n_pairs=0)
    figure = figures.gains(nothing)
    (axes,) = figure.axes
    assert points(axes, filled=False) == [0.85, 3.39, 1.15] and points(axes, filled=True) == []
    assert not axes.texts and "no run yet" in figure.get_supxlabel()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ResNet-18", "ResNet-50"]
    assert not any("this study" in text.get_text() for text in figure.legends[0].get_texts())


def test_gains_show_one_measure_and_name_what_varies():
    rows = frame().assign(model="resnet50", setting=["finetune"] * 3 + ["finetune_only"] * 3)
    rows["baseline_delta"] = [np.nan, 1.0, 2.0, np.nan, 3.0, 4.0]
    both = pd.concat([rows, rows.assign(metric="test_top5_last", baseline_delta=9.0)], ignore_index=True)
    axes = figures.gains(both).axes[0]
    assert 9.0 not in points(axes, filled=True)
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "in pre-training and fine-tuning",
        "in fine-tuning only",
    ]
    assert "top-1" in figures.gains(both).get_supxlabel()


def test_gains_of_a_table_without_published_values_show_no_hollow_markers():
    def key(rows):
        return [text.get_text() for text in figures.gains(rows).legends[0].get_texts()]

    assert "hollow: paper" in key(frame())
    assert "hollow: paper" not in key(frame().assign(paper_delta=np.nan))


def test_settings_that_tell_no_rows_apart_have_no_places_of_their_own():
    rows = frame().assign(model="resnet18", method=["baseline", "cds", "kd", "at", "sp", "cds_kd"])
    rows["setting"] = ["supervised"] * 2 + ["distill"] * 4
    (axes,) = figures.gains(rows).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["CDS", "KD"]


@pytest.mark.parametrize("table", official(), ids=lambda table: table.name)
def test_no_two_methods_of_a_table_look_the_same(table):
    methods = list(dict.fromkeys(cell.method for cell in table.cells("paper", (0,))))
    if table.name not in ("deviations", "tuning", "summary"):  # their figures have a line a row
        looks = [figures.style(method, methods) for method in methods]
        assert len(set(looks)) == len(looks) == len({colour for colour, _ in looks}), looks


def test_a_new_method_looks_like_none_of_its_table():
    methods = ["baseline", "dsn", "new", "cds", "newer"]
    assert len({figures.style(method, methods)[0] for method in methods}) == 5


@pytest.mark.parametrize("table", ["contrastive_methods", "table3_imagenet", "table7_imagenet_distillation"])
def test_nothing_of_a_figure_is_cut_off(table):
    rows = report.tidy(TABLES[table], "mini", None, Store(Path("none")))
    figure = figures.gains(rows)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes,), (key,) = figure.axes, figure.legends
    texts = [*key.get_texts(), figure._supxlabel, *axes.get_yticklabels(), *axes.texts]
    assert len(texts) > 5
    for text in texts:
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= figure.bbox.y0, text.get_text()


def test_groups_without_a_difference_have_no_place():
    rows = frame().assign(model=["resnet18"] * 3 + ["resnet50"] * 3)
    unknown = (rows["model"] == "resnet50").to_numpy()
    rows.loc[unknown, ["baseline_delta", "paper_delta", "ci_low", "ci_high"]] = np.nan
    (axes,) = figures.gains(rows).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["DSN", "CDS"]
    nothing = figures.gains(rows.assign(baseline_delta=np.nan, paper_delta=np.nan))
    assert "No difference is known yet" in figures.svg_text(nothing)
    assert nothing.axes == [] and nothing.get_figheight() < 1


def test_gains_of_smoke_say_so():
    assert "mean nothing" in figures.gains(frame("smoke")).axes[0].get_title()


def test_curves_are_means_over_the_seeds_at_common_epochs():
    seeds = [history(10, np.nan, 30), history(20, np.nan, 50), pd.DataFrame({"epoch": [1], "train_loss": [2.0]})]
    figure = figures.accuracy_curves(
        {"resnet18": {"baseline": seeds, "cds": []}, "resnet50": {"baseline": [], "cds": []}}
    )
    (axes,) = figure.axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 3]
    assert list(line.get_ydata()) == [15, 40]
    assert axes.get_title() == "resnet18"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline"]


def test_a_method_looks_the_same_in_both_figures():
    runs = {name: [history(1, 2)] for name in ("baseline", "dsn", "cds")}
    curves = figures.accuracy_curves({"resnet18": runs})
    by_label = {line.get_label(): to_hex(line.get_color()) for line in curves.axes[0].lines}
    both = frame().assign(baseline_delta=1.0)  # with two networks, methods are in the legend
    gains = {text.get_text(): handle for handle, text in legend(figures.gains(both))}
    for method in ("DSN", "CDS"):
        assert to_hex(gains[method].get_color()) == by_label[method]


def legend(figure):
    (found,) = figure.legends
    return zip(found.legend_handles, found.get_texts(), strict=True)


def test_without_any_run_there_is_a_figure_that_says_so():
    figure = figures.accuracy_curves({"resnet18": {"baseline": []}})
    assert "No run is finished" in figures.svg_text(figure)  # matplotlib keeps the text beside its outline
    assert figure.axes == [] and figure.get_figheight() < 1


def test_runs_that_were_tested_once_have_no_curve():
    once = pd.DataFrame({"epoch": [24], "test_ap": [0.1]})
    figure = figures.accuracy_curves({"retinanet": {"baseline": [once], "cds": [once]}}, "test_ap", "AP (%)")
    assert figure.axes == [] and "tested once" in figure.texts[0].get_text()
    figure = figures.accuracy_curves({"resnet50": {"baseline": [history(1, 2)], "supcon": [history(np.nan, 2)]}})
    line, ring = figure.axes[0].lines
    assert (ring.get_label(), ring.get_linestyle(), ring.get_mfc()) == ("SupCon (tested once)", "None", "none")
    assert ring.get_zorder() > line.get_zorder() and list(ring.get_xdata()) == [2]


def test_many_methods_have_a_panel_each_beside_the_baseline():
    names = ["baseline", "kd", "at", "rkd", "sp", "cc", "crd"]
    assert len(names) == figures.LINES + 1
    figure = figures.accuracy_curves({"ResNet-18": {name: [history(1, 2)] for name in names}})
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in drawn] == [f"ResNet-18, {name.upper()}" for name in names[1:]]
    assert all([line.get_label() for line in axes.lines][0] == "baseline" and len(axes.lines) == 2 for axes in drawn)
    assert len({axes.get_ylim() for axes in drawn}) == 1
    (few,) = figures.accuracy_curves({"ResNet-18": {name: [history(1, 2)] for name in names[1:]}}).axes
    assert len(few.lines) == figures.LINES


@pytest.mark.parametrize(
    "make", [lambda: figures.gains(frame()), lambda: figures.accuracy_curves({"m": {"cds": [history(1, 2)]}})]
)
def test_svg_is_the_same_bytes_every_time_and_complete(make, tmp_path):
    first = figures.save_svg(make(), tmp_path / "folder" / "a.svg")
    second = figures.save_svg(make(), tmp_path / "folder" / "b.svg")
    assert first.read_bytes() == second.read_bytes()
    assert ElementTree.parse(first).getroot().tag.endswith("svg")
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.svg", "b.svg"]
    assert "<dc:date>" not in first.read_text()


def test_accuracy_by_fraction_draws_ours_and_the_published_curves():
    rows = [
        {"dataset": dataset, "method": method, "setting": f"semi_{percent}", "mean": percent + bonus, "std": 1.0,
         "paper": None if method == "baseline_matched" else 50.0 + percent, "baseline_delta": bonus or None,
         "ci_low": bonus - 0.5 if bonus else None, "ci_high": bonus + 1.5 if bonus else None}
        for dataset in ("cifar100", "cifar10")
        for method, bonus in (("baseline", 0.0), ("baseline_matched", 1.0), ("cds_simclr", 2.0))
        for percent in (10, 20, 30, 40)
    ]  # fmt: skip
    numbers = dict.fromkeys(("paper", "baseline_delta", "ci_low", "ci_high"), float)
    figure = figures.accuracy_by_fraction(pd.DataFrame(rows).astype(numbers))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["CIFAR-100", "CIFAR-10"]
    published, ours, below = figure.axes[0], figure.axes[2], figure.axes[4]
    assert [list(line.get_ydata()) for line in published.lines] == [[60.0, 70.0, 80.0, 90.0]] * 2
    gains = [list(line.get_ydata()) for line in below.lines if line.get_marker() in "o^"]
    assert gains[1:] == [[1.0] * 4, [2.0] * 4] and np.isnan(gains[0]).all()
    bars = [segment[:, 1].tolist() for segment in below.collections[2].get_segments()]
    assert bars == [[1.5, 3.5]] * 4
    _, labels = ours.get_legend_handles_labels()
    assert labels == ["baseline", "baseline, as many steps", "CDS (SimCLR loss)"]
    assert "one standard deviation" in ours.get_ylabel() and "95 % interval" in below.get_ylabel()
    assert below.get_ylim() == figure.axes[5].get_ylim()
    assert (
        published.get_ylim()[0] > 50 > ours.get_ylim()[0]
    )  # published ones, far above ours, have a scale of their own


def test_epochs_are_whole_numbers_on_the_axis():
    two = pd.DataFrame({"epoch": [23, 24], "test_ap": [0.1, 0.2]})
    figure = figures.accuracy_curves({"retinanet": {"baseline": [two]}}, "test_ap", "AP (%)")
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def claim_frame(**columns):
    frame = verdicts.tidy("mini", (0, 1, 2), Store("a folder that is not there")).head(4)
    return frame.assign(**columns)


def test_claims_are_drawn_with_intervals_and_what_was_published():
    nan = float("nan")
    frame = claim_frame(
        baseline_delta=[1.0, 2.0, nan, -1.0], ci_low=[0.5, nan, nan, -2.0], ci_high=[1.5, nan, nan, 0.5]
    )
    (axes,) = figures.claims(frame).axes
    dots = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    diamonds = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in dots] == [1.0, 2.0, -1.0]  # the one without a difference is left out
    assert [line.get_xdata()[0] for line in diamonds] == frame["paper_delta"].iloc[[0, 1, 3]].tolist()
    bars = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.6]
    assert bars == [[0.5, 1.5], [-2.0, 0.5]]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "DSN beats the baseline\nCIFAR-100, ResNet-18, from scratch"
    assert axes.get_title(loc="left") == "top-1: higher is better"
    assert figures.svg_text(figures.claims(frame)) == figures.svg_text(figures.claims(frame))


def test_untested_claims_make_a_figure_that_says_so():
    figure = figures.claims(claim_frame())
    assert [text.get_text() for text in figure.texts] == ["No claim has been tested."]


def test_measures_that_are_read_otherwise_have_a_panel_of_their_own():
    metrics = ["test_top1_last", "ece", "train_cross_entropy", "test_ap_last"]
    frame = claim_frame(baseline_delta=[1.0, -1.0, 0.1, 2.0], metric=metrics, n_pairs=3)
    panels = figures.claims(frame).axes
    titles = ["top-1, AP: higher is better", "ECE: lower is better", "training cross-entropy: neither side is better"]
    assert [axes.get_title(loc="left") for axes in panels] == titles
    units = [f"difference ({unit})" for unit in ("percentage points", "percentage points", "nats")]
    assert [axes.get_xlabel() for axes in panels] == units
    assert [len(axes.get_yticks()) for axes in panels] == [2, 1, 1]
    assert panels[0].get_yticklabels()[1].get_text().endswith(", AP")  # two measures: a line names its own


def test_the_plot_of_the_claims_says_when_it_shows_a_part():
    few = claim_frame(baseline_delta=1.0)
    many = pd.concat([few] * 8, ignore_index=True)
    assert "The first" not in figures.claims(few).get_supxlabel()
    assert figures.claims(many).get_supxlabel().endswith(f" The first {figures.CLAIMS} of {len(many)} claims.")


def test_the_description_is_the_title_of_the_file(tmp_path):
    figure = figures.claims(claim_frame())
    path = figures.save_svg(figure, tmp_path / "x.svg", "A <b> & c")
    assert "<title>A &lt;b&gt; &amp; c</title>" in path.read_text()
    assert "<title>" not in figures.svg_text(figure)


def test_the_users_matplotlibrc_changes_no_figure():
    def drawn():
        curves = {"ResNet-18": {"baseline": [history(1, 2, 3)], "cds": [history(2, 3, 4), history(1, 3, 5)]}}
        return [figures.svg_text(figure) for figure in (figures.gains(frame()), figures.accuracy_curves(curves))]

    theirs = {"text.usetex": True, "font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "savefig.dpi": 30}
    plain = drawn()
    with mpl.rc_context({**theirs, "svg.fonttype": "none", "savefig.bbox": "tight", "axes.xmargin": 0.4}):
        assert drawn() == plain


def test_a_dollar_in_the_name_of_a_class_is_a_dollar():
    picture = {"points": {"1": [[0, 0], [1, 1]]}, "labels": [0, 1], "classes": [r"$\frac$", "US$"]}
    text = figures.svg_text(analysis_figures.embeddings({"cds": picture}, {"cds": {"1": "k-NN 50.0 %"}}))
    assert r"<!-- $\frac$ -->" in text and "<!-- US$ -->" in text


def test_every_function_that_makes_a_figure_makes_it_in_our_style():
    makers = {}
    for path in Path(cds_lib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(call, ast.Call) and ast.unparse(call.func) == "Figure" for call in ast.walk(node)
            ):
                makers[f"{path.stem}.{node.name}"] = [ast.unparse(name) for name in node.decorator_list]
    assert len(makers) > 10
    assert not {name for name, decorators in makers.items() if not any("own_style" in text for text in decorators)}
