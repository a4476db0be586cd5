"""The verdict of a claim equals that of its table; averages and rivals are paired by seed."""

import functools

import numpy as np
import pandas as pd
import pytest

from cds_lib.study import statistics
from cds_lib.study.errors import RunError
from cds_lib.study.plan import settings
from cds_lib.study.report.frame import COLUMNS, every_result, results, tidy
from cds_lib.study.report.table_files import read_table, write_table
from cds_lib.study.report.verdicts import MORE_COLUMNS, claimed, with_seeds_enough
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES, official
from cds_lib.study.tables.summary import published_claims
from run_folders import top1, write_run

SEEDS = (0, 1, 2)


@functools.cache
def nothing(profile, seeds):
    """Return the frames of all tables for an empty store."""
    return every_result(official(), profile, seeds, Store("nowhere"))


def summary_of(profile, seeds, store):
    """Return the summary. Tables without a run in the store come from the cached empty frames."""
    empty, ids = nothing(profile, seeds), {*store.ids()}
    filled = [TABLES[name] for name, frame in empty.items() if not ids.isdisjoint(frame["run"])]
    return claimed(empty | every_result(filled, profile, seeds, store), profile, seeds, store)


DATA = {"kind": "official", "verified": True, "train": 100, "test": 10, "sha256": "f" * 64, "note": "made"}


def finish(store, spec, value, dataset_complete=True):
    status = {"state": "done", "data": {**DATA, "complete": dataset_complete}}
    history = f"epoch,train_cross_entropy\n1,{value / 10}\n"
    write_run(store, spec, top1(value) | {"test_top5_last": value}, status, history)


def table1(store, values, models=None):
    """Write runs of Table 1. values: (model, method, seed) -> accuracy, or None for no run."""
    for cell in TABLES["table1_cifar100"].cells("mini", SEEDS):
        for spec in cell.specs if models is None or cell.model in models else ():
            value = values(cell.model, cell.method, spec.seed)
            if value is not None:
                finish(store, spec, value)


def rows(frame, **wanted):
    return frame[np.logical_and.reduce([frame[name] == value for name, value in wanted.items()])]


def only(frame, **wanted):
    (row,) = (row for _, row in rows(frame, **wanted).iterrows())
    return row


def test_an_untested_summary_has_a_row_a_claim_with_n_zero(store):
    planned = summary_of("mini", None, store).query("claimed_in == 'table1_cifar100' and kind == 'poster'")
    assert planned["n_planned"].tolist() == [1]  # its cells with fewest seeds, nine of ten networks, decide
    frame = summary_of("mini", SEEDS, store)
    assert tuple(frame.columns) == (*COLUMNS, *MORE_COLUMNS)
    assert len(frame) == len(published_claims("mini", SEEDS))
    assert set(frame["verdict"]) == {"not run"} and not frame["n"].any()
    assert frame[["mean", "baseline_delta", "p_value", "p_holm"]].isna().all(axis=None)


def test_verdicts_are_those_of_the_tables(store):
    rng = np.random.default_rng(0)

    def value(model, method, seed):
        if model not in ("resnet18", "resnet50", "seresnet18") and seed == 0:
            return None
        return float(rng.normal(30 + 3 * (method == "cds") - 3 * (method == "dsn"), 0.4))

    table1(store, value)
    frame = summary_of("mini", SEEDS, store)
    table = tidy(results(TABLES["table1_cifar100"], "mini", SEEDS, store))
    columns = ["model", "method", *COLUMNS[6:16], "p_value", "runs"]
    ours = rows(frame, claimed_in="table1_cifar100", kind="baseline")[columns].reset_index(drop=True)
    theirs = table[table["paper_delta"].notna()][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert set(ours["verdict"]) == {"inconclusive", "direction confirmed", "contradicted"}


def test_cds_is_compared_with_another_method_seed_by_seed(store):
    values = {"baseline": (30, 31, 32), "dsn": (31, 30, 33), "cds": (34, 32, 34.5)}
    table1(store, lambda model, method, seed: values[method][seed] if method in values else None, models=("resnet18",))
    frame = summary_of("mini", SEEDS, store)
    row = only(frame, kind="rival", model="resnet18", reference="dsn", claimed_in="table1_cifar100")
    oracle = statistics.paired_difference({0: 3.0, 1: 2.0, 2: 1.5}, dict.fromkeys(SEEDS, 0.0))
    assert row["paper_delta"] == 2.54 and row["baseline_delta"] == pytest.approx(6.5 / 3)
    assert (row["ci_low"], row["p_value"]) == (pytest.approx(oracle.low), 0.25)
    assert (row["n_pairs"], row["verdict"]) == (3, statistics.verdict(oracle, 2.54, "mini"))
    untested = only(frame, kind="rival", model="resnet18", reference="dks", claimed_in="table1_cifar100")
    assert (untested["n"], untested["n_pairs"], untested["verdict"]) == (3, 0, "not run")
    assert untested["why"] == "DKS, which it is compared with, was not trained with the same seed"


def test_an_average_is_over_all_its_cells_and_the_seeds_that_all_have(store):
    models = list(dict.fromkeys(cell.model for cell in TABLES["table1_cifar100"].cells("mini", SEEDS)))

    def value(model, method, seed):
        if (model, method, seed) == (models[4], "cds", 1):
            return None
        return 30 + models.index(model) + seed + (1 + models.index(model) / 10 + seed / 4) * (method == "cds")

    table1(store, lambda m, how, seed: value(m, how, seed) if how in ("baseline", "cds") else None)
    row = only(summary_of("mini", SEEDS, store), kind="poster", claimed_in="table1_cifar100")
    assert (row["dataset"], row["model"], row["paper_delta"]) == ("cifar100", "mean of 10 networks", 3.44)
    assert (row["n"], row["n_pairs"]) == (2, 2)  # one network lacks seed 1
    assert row["baseline_delta"] == pytest.approx(1.45 + 0.25)  # mean of 0.0 to 0.9, plus the mean for seeds 0 and 2
    assert row["mean"] == pytest.approx(30 + 4.5 + 1 + 1.7) and row["verdict"] == "inconclusive"


def test_holm_covers_the_claims_of_one_kind_in_one_table(store):
    rng = np.random.default_rng(1)
    table1(store, lambda model, method, seed: 30 + float(rng.normal()), models=("resnet18", "resnet50"))
    frame = summary_of("mini", SEEDS, store)
    with_p = frame[frame["p_value"].notna()]
    assert set(with_p["kind"]) == {"baseline", "rival"}
    for _, family in with_p.groupby(["claimed_in", "kind"]):
        assert family["p_holm"].tolist() == statistics.holm(family["p_value"].tolist())
    assert frame["p_holm"].notna().equals(frame["p_value"].notna())


def test_reasons(store):
    cells = {(c.model, c.method): c.specs for c in TABLES["table1_cifar100"].cells("mini", SEEDS)}
    for spec in (*cells["resnet18", "baseline"], *cells["resnet18", "cds"][:2], *cells["resnet50", "baseline"]):
        finish(store, spec, 30.0 + spec.seed)
    finish(store, cells["resnet18", "dsn"][0], 31.0)
    finish(store, cells["resnet50", "cds"][0], 33.0)
    failed = {"state": "failed", "error": "out of memory\nsecond line"}
    write_run(store, cells["resnet101", "dsn"][0], status=failed)
    semi = {(c.dataset, c.method, c.setting): c.specs for c in TABLES["semi_supervised"].cells("mini", SEEDS)}
    finish(store, semi["cifar10", "baseline", "semi_10"][0], 40.0, dataset_complete=False)
    finish(store, semi["cifar10", "cds_simclr", "semi_10"][0], 43.0, dataset_complete=False)
    frame = summary_of("mini", SEEDS, store)

    def of(**wanted):
        return only(frame, **{"kind": "baseline", "claimed_in": "table1_cifar100"} | wanted)

    assert of(model="resnet18", method="cds")["why"] == "2 seeds, and fewer than 3 decide nothing"
    assert of(model="resnet101", method="dsn")["why"] == "a run failed: out of memory"
    assert of(model="resnet18", method="dks")["cause"] == "not trained"
    assert of(kind="poster", model="mean of 10 networks")["cause"] == "one side"
    assert of(claimed_in="table6_finegrained", dataset="flowers102", method="cds")["cause"] == "no images"
    semi10 = of(claimed_in="semi_supervised", dataset="cifar10", setting="semi_10")
    assert (semi10["cause"], semi10["partial"]) == ("", "CIFAR-10")
    causes = frame[frame["verdict"] == "not run"]["cause"].value_counts()
    assert causes["failed"] == 2 and causes.sum() == len(frame[frame["n_pairs"] == 0]) and "" not in causes
    assert (frame["partial"] == "CIFAR-10").sum() == 1


def test_the_lesson_on_made_data_says_nothing_of_the_real_set(store):
    """The runs of the first notebook are named CIFAR-10, but their images are never complete."""
    finish(store, TABLES["00_start_here"].runs("smoke", None)[1], 50.0, dataset_complete=False)

    def why():
        where = {"claimed_in": "semi_supervised", "dataset": "cifar10", "setting": "semi_10"}
        return rows(summary_of("mini", SEEDS, store), **where).iloc[0]["why"]

    assert why() == "nothing was trained on CIFAR-10: not asked for, or no images available"
    for method in ("baseline", "cds_simclr"):
        finish(store, settings.semi_supervised("mini", "cifar10", method, 10, 0), 20.0)
    assert why() == "1 seed, and fewer than 3 decide nothing"


def decided(store):
    """Write Table 1 for one network, where DSN is better at every seed, CDS worse, DKS mixed."""
    gains = {"baseline": (0, 0, 0), "dsn": (1, 1.1, 0.9), "cds": (-2, -2.1, -1.9), "dks": (2, -2, 1)}
    table1(store, lambda m, how, seed: 30 + seed + gains[how][seed] if how in gains else None, models=("resnet18",))
    return summary_of("mini", SEEDS, store)


def test_tested_claims_come_decided_ones_first(store):
    shown = with_seeds_enough(decided(store))
    assert shown["method"].tolist()[:2] == ["dsn", "cds"] and len(shown) == 6
    order = ["direction confirmed", "contradicted", "inconclusive"]
    assert shown["verdict"].tolist() == sorted(shown["verdict"], key=order.index)


def test_what_an_analysis_lacks_is_said(store):
    for method in ("baseline", "cds"):
        (cell,) = (c for c in TABLES["calibration"].cells("mini", SEEDS) if (c.method, c.metric) == (method, "ece"))
        for spec in cell.specs:
            finish(store, spec, 30.0)
    row = only(summary_of("mini", SEEDS, store), claimed_in="calibration")
    assert (row["n"], row["verdict"], row["reason"]) == (0, "not run", "3 finished runs without weights")
    assert row["why"] == "trained, but not measured: 3 finished runs without weights"


def test_a_finished_run_without_its_history_is_named(store):
    spec = TABLES["training_loss"].cells("mini", SEEDS)[0].specs[0]
    finish(store, spec, 30.0)
    (store.run_dir(spec.id) / "history.csv").unlink()
    with pytest.raises(RunError, match=f"{spec.id}.*train_cross_entropy.*delete"):
        summary_of("mini", SEEDS, store)


def test_a_smoke_summary_judges_nothing(store):
    for spec in TABLES["table1_cifar100"].runs("smoke", (0,)):
        finish(store, spec, 50.0)
    frame = summary_of("smoke", (0,), store)
    paired = frame[frame["n_pairs"] > 0]
    assert set(paired["verdict"]) == {"not meaningful (smoke)"}
    assert set(paired["claimed_in"]) == {"table1_cifar100", "training_loss"}


def test_files_round_trip_and_hold_every_claim(store, tmp_path):
    frame = decided(store)
    paths = write_table(frame, TABLES[SUMMARY], tmp_path)
    pd.testing.assert_frame_equal(read_table(SUMMARY, tmp_path), frame, check_exact=True)
    before = {kind: path.read_bytes() for kind, path in paths.items()}
    again = write_table(summary_of("mini", SEEDS, store), TABLES[SUMMARY], tmp_path)
    assert {kind: path.read_bytes() for kind, path in again.items()} == before
    lines = [line for line in before["md"].decode().splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(frame) and len({line.count(" | ") for line in lines}) == 1
    marked = {line.split(" | ")[0].strip("| ") for line in lines if "≈" in line}  # measured from a plot
    assert marked == {TABLES["semi_supervised"].title}
    body = before["tex"].decode().partition(r"\endlastfoot")[2]
    assert sum(line.endswith(r" \\") for line in body.splitlines()) == len(frame)
