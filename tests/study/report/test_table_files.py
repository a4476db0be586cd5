"""Tables made from a small synthetic store: every printed cell is known beforehand."""

import numpy as np
import pandas as pd
import pytest

from cds_lib.study.errors import RunError
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.table import Table, cell
from cds_lib.study.report import formats
from cds_lib.study.report.frame import COLUMNS, results, tidy
from cds_lib.study.report.table_files import printed, read_table, write_table
from run_folders import top1, write_run

SEEDS = (0, 1, 2)
PAPER = {"baseline": 77.45, "dsn": 78.30, "cds": 80.84, "cds_simclr": None}


def build(profile):
    return [cell(supervised(profile, "cifar100", "resnet18", m), SEEDS, paper=value) for m, value in PAPER.items()]


TABLE = Table("A 100 % & more_table", "Does it?", build, note="a poster, Table 1", name="table_x")


def fill(store, profile="mini", seeds=SEEDS, **values):
    """Write runs and return their ids. values: method -> {seed: last-epoch accuracy}."""
    specs = {cell.method: {spec.seed: spec for spec in cell.specs} for cell in TABLE.cells(profile, seeds)}
    for method, by_seed in values.items():
        for seed, value in by_seed.items():
            write_run(store, specs[method][seed], top1(value, value + 1))
    return {method: {seed: spec.id for seed, spec in by_seed.items()} for method, by_seed in specs.items()}


def rows_of(frame):
    return {row["method"]: row for _, row in frame.iterrows()}


def test_complete_cells(store):
    ids = fill(store, baseline={0: 30.0, 1: 31.0, 2: 32.0}, cds={0: 33.0, 1: 33.0, 2: 36.0})
    frame = tidy(results(TABLE, "mini", SEEDS, store))
    assert tuple(frame.columns) == COLUMNS
    cds = rows_of(frame)["cds"]
    assert (cds["mean"], cds["std"], cds["n"], cds["n_planned"]) == (34.0, pytest.approx(3**0.5), 3, 3)
    assert (cds["best_mean"], cds["best_std"]) == (35.0, pytest.approx(3**0.5))
    margin = 4.302652729911275 * np.std([3, 2, 4], ddof=1) / 3**0.5  # t quantile for two degrees of freedom
    assert cds["baseline_delta"] == pytest.approx(3.0)
    assert (cds["ci_low"], cds["ci_high"]) == (pytest.approx(3 - margin), pytest.approx(3 + margin))
    assert (cds["p_value"], cds["paper_delta"], cds["verdict"]) == (0.25, 3.39, "direction confirmed")
    assert cds["runs"] == " ".join(ids["cds"][seed] for seed in SEEDS)
    shown = rows_of(printed(frame))["CDS"]
    assert shown["mean ± std (n)"] == "34.00 ± 1.73 (3)"
    assert shown["difference [95 % CI]"] == "+3.00 [+0.52, +5.48]"
    baseline = rows_of(frame)["baseline"]
    assert baseline["verdict"] == "" and np.isnan(baseline["baseline_delta"])


def test_a_cell_not_run_is_a_row_with_n_zero(store):
    fill(store, baseline={0: 30.0})
    frame = tidy(results(TABLE, "mini", SEEDS, store))
    row = rows_of(frame)["dsn"]
    assert len(frame) == 4
    assert (row["n"], row["n_planned"], row["paper"], row["verdict"], row["runs"]) == (0, 3, 78.30, "not run", "")
    assert row[["mean", "std", "baseline_delta", "ci_low", "best_mean"]].isna().all()
    assert rows_of(printed(frame))["DSN"]["mean ± std (n)"] == "not run"


def test_partial_cell_and_pairs_with_gaps(store):
    fill(store, baseline={0: 30.0, 1: 40.0}, cds={1: 43.0, 2: 99.0}, dsn={2: 31.0})
    frame = tidy(results(TABLE, "mini", SEEDS, store))
    rows, shown = rows_of(frame), rows_of(printed(frame))
    assert rows["cds"]["mean"] == 71.0  # mean over its own two seeds
    assert rows["cds"]["baseline_delta"] == 3.0  # difference over the one common seed
    assert np.isnan(rows["cds"]["ci_low"]) and rows["cds"]["verdict"] == "inconclusive"
    assert shown["CDS"]["mean ± std (n)"].endswith("(2 of 3)") and shown["CDS"]["pairs"] == "1 of 3"
    assert rows["dsn"]["n"] == 1 and np.isnan(rows["dsn"]["baseline_delta"])  # no common seed to compare
    assert rows["dsn"]["verdict"] == "not run"  # the verdict is that of the comparison, as in the summary
    assert shown["DSN"]["mean ± std (n)"] == "31.00 (1 of 3)"


def test_a_finished_run_without_the_metric_is_named(store):
    ids = fill(store, baseline={0: 30.0})
    (store.run_dir(ids["baseline"][0]) / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match=ids["baseline"][0]):
        tidy(results(TABLE, "mini", SEEDS, store))


def test_csv_round_trip_is_exact_and_numeric(store, tmp_path):
    fill(store, baseline={0: 30.1, 1: 31.123456789}, cds={0: 33.3, 1: 34.7})
    frame = tidy(results(TABLE, "mini", SEEDS, store))
    paths = write_table(frame, TABLE, tmp_path)
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["table_x.csv", "table_x.md", "table_x.tex"]
    pd.testing.assert_frame_equal(read_table("table_x", tmp_path), frame, check_exact=True)
    plain = pd.read_csv(paths["csv"])
    assert [plain[name].dtype.kind for name in ("mean", "baseline_delta", "n")] == ["f", "f", "i"]
    again = paths["csv"].read_bytes()
    write_table(tidy(results(TABLE, "mini", SEEDS, store)), TABLE, tmp_path)
    assert paths["csv"].read_bytes() == again


def test_markdown(store, tmp_path):
    fill(store, baseline={0: 30.0, 1: 31.0, 2: 32.0})
    text = write_table(tidy(results(TABLE, "mini", SEEDS, store)), TABLE, tmp_path)["md"].read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4 and len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| ResNet-18 | baseline | 77.45 | 31.00 ± 1.00 (3) | 32.00 | – | ")
    assert rows[4].startswith("| ResNet-18 | CDS | 80.84 | not run | – | – | 0 of 3 | +3.39 | not run | – |")
    assert TABLE.source in text


def test_latex_is_escaped(store, tmp_path):
    fill(store, baseline={0: 30.0, 1: 31.0}, cds={0: 29.0, 1: 30.5})
    text = write_table(tidy(results(TABLE, "mini", SEEDS, store)), TABLE, tmp_path)["tex"].read_text()
    assert r"29.75 $\pm$ 1.06 (2 of 3)" in text and r"$-$0.75 [$-$3.93, +2.43]" in text
    body = text[text.index(r"\endlastfoot") : text.index(r"\end{longtable}")]
    assert body.count(r"\\") == 4
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {8}


@pytest.mark.parametrize(
    ("form", "arguments", "text"),
    [
        (formats.mean_std_n, (77.183, 0.117, 5, 5, 2), "77.18 ± 0.12 (5)"),
        (formats.mean_std_n, (77.183, float("nan"), 1, 1, 2), "77.18 (1)"),
        (formats.mean_std_n, (77.183, 0.117, 3, 5, 2), "77.18 ± 0.12 (3 of 5)"),
        (formats.mean_std_n, (float("nan"), float("nan"), 0, 5, 2), "not run"),
        (formats.mean_std_n, (0.013, 0.0004, 3, 3, 2), "0.01 ± 0.0004 (3)"),
        (formats.signed, (1.0, 2), "+1.00"),
        (formats.signed, (-1.005, 2), "−1.00"),
        (formats.signed, (1e-15, 2), "0.00"),
        (formats.signed, (0.0024, 2), "+0.002"),
        (formats.number, (0.00096,), "0.0010"),  # a nonzero number is not printed as zero
        (formats.number, (0.0,), "0.00"),
    ],
)
def test_a_number_is_printed(form, arguments, text):
    assert form(*arguments) == text


def test_a_table_with_other_columns_is_refused(store):
    paths = write_table(tidy(results(TABLE, "mini", SEEDS, store)), TABLE, store.root)
    paths["csv"].write_text(pd.read_csv(paths["csv"]).drop(columns="runs").to_csv(index=False))
    with pytest.raises(RunError, match="it has other columns, or no rows"):
        read_table("table_x", store.root)
