"""The verdict of a claim is that of its table; averages and rivals pair by seed."""

import numpy as np
import pandas as pd
import pytest

from cds_lib.study import settings, statistics
from cds_lib.study.errors import RunError
from cds_lib.study.report import report, summary, verdicts, wording
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.study.tables.summary import published_claims
from run_folders import top1, write_run

SEEDS = (0, 1, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture(scope="module")
def collected():
    return published_claims("mini", SEEDS)


DATA = {"kind": "official", "verified": True, "train": 100, "test": 10, "sha256": "f" * 64, "note": "made"}


def finish(store, spec, value, dataset_complete=True):
    status = {"state": "done", "data": {**DATA, "complete": dataset_complete}}
    history = f"epoch,train_cross_entropy\n1,{value / 10}\n"
    write_run(store, spec, top1(value) | {"test_top5_last": value}, status, history)


def fail(store, spec, error):
    write_run(store, spec, status={"state": "failed", "error": error})


def table1(store, values, models=None):
    """values: (model, method, seed) -> accuracy, or None for a run that is not there."""
    for cell in TABLES["table1_cifar100"].cells("mini", SEEDS):
        if models is None or cell.model in models:
            for spec in cell.specs:
                value = values(cell.model, cell.method, spec.seed)
                if value is not None:
                    finish(store, spec, value)


def rows(frame, **wanted):
    return frame[np.logical_and.reduce([frame[name] == value for name, value in wanted.items()])]


def only(frame, **wanted):
    (row,) = (row for _, row in rows(frame, **wanted).iterrows())
    return row


def test_an_untested_summary_has_a_row_a_claim_with_n_zero(store, collected):
    frame = verdicts.tidy("mini", SEEDS, store)
    assert tuple(frame.columns) == verdicts.COLUMNS
    assert frame.columns[: len(report.COLUMNS)].tolist() == list(report.COLUMNS)
    assert len(frame) == len(collected)
    assert set(frame["verdict"]) == {"not run"} and not frame["n"].any()
    assert frame[["mean", "baseline_delta", "p_value", "p_holm"]].isna().all(axis=None)


def test_verdicts_are_those_of_the_tables(store):
    rng = np.random.default_rng(0)

    def value(model, method, seed):
        if model not in ("resnet18", "resnet50", "seresnet18") and seed == 0:
            return None
        return float(rng.normal(30 + 3 * (method == "cds") - 3 * (method == "dsn"), 0.4))

    table1(store, value)
    frame = verdicts.tidy("mini", SEEDS, store)
    table = report.tidy(TABLES["table1_cifar100"], "mini", SEEDS, store)
    columns = ["model", "method", *report.COLUMNS[6:16], "p_value", "runs"]
    ours = rows(frame, claimed_in="table1_cifar100", kind="baseline")[columns].reset_index(drop=True)
    theirs = table[table["paper_delta"].notna()][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert set(ours["verdict"]) == {"inconclusive", "direction confirmed", "contradicted"}


def test_cds_is_compared_with_another_method_seed_by_seed(store):
    values = {"baseline": (30, 31, 32), "dsn": (31, 30, 33), "cds": (34, 32, 34.5)}
    table1(store, lambda model, method, seed: values[method][seed] if method in values else None, models=("resnet18",))
    frame = verdicts.tidy("mini", SEEDS, store)
    row = only(frame, kind="rival", model="resnet18", reference="dsn", claimed_in="table1_cifar100")
    oracle = statistics.paired_difference({0: 3.0, 1: 2.0, 2: 1.5}, dict.fromkeys(SEEDS, 0.0))
    assert row["paper_delta"] == 2.54
    assert row["baseline_delta"] == pytest.approx(6.5 / 3)
    assert (row["ci_low"], row["p_value"]) == (pytest.approx(oracle.ci_low), 0.25)
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
    row = only(verdicts.tidy("mini", SEEDS, store), kind="poster", claimed_in="table1_cifar100")
    assert (row["dataset"], row["model"], row["paper_delta"]) == ("cifar100", "mean of 10 networks", 3.44)
    assert (row["n"], row["n_pairs"]) == (2, 2)  # seed 1 lacks one network
    assert row["baseline_delta"] == pytest.approx(1.45 + 0.25)  # mean of 0.0 to 0.9, and of seeds 0 and 2
    assert row["mean"] == pytest.approx(30 + 4.5 + 1 + 1.7)
    assert row["verdict"] == "inconclusive"


def test_holm_covers_the_claims_of_one_kind_in_one_table(store):
    rng = np.random.default_rng(1)
    table1(store, lambda model, method, seed: 30 + float(rng.normal()), models=("resnet18", "resnet50"))
    frame = verdicts.tidy("mini", SEEDS, store)
    tested = frame[frame["p_value"].notna()]
    assert set(tested["kind"]) == {"baseline", "rival"}
    for _, family in tested.groupby(["claimed_in", "kind"]):
        assert family["p_holm"].tolist() == statistics.holm(family["p_value"].tolist())
    assert frame["p_holm"].notna().equals(frame["p_value"].notna())


def test_reasons(store):
    cells = {(c.model, c.method): c.specs for c in TABLES["table1_cifar100"].cells("mini", SEEDS)}
    for spec in (*cells["resnet18", "baseline"], *cells["resnet18", "cds"][:2], *cells["resnet50", "baseline"]):
        finish(store, spec, 30.0 + spec.seed)
    finish(store, cells["resnet18", "dsn"][0], 31.0)
    finish(store, cells["resnet50", "cds"][0], 33.0)
    fail(store, cells["resnet101", "dsn"][0], "out of memory\nsecond line")
    semi = {(c.dataset, c.method, c.setting): c.specs for c in TABLES["semi_supervised"].cells("mini", SEEDS)}
    finish(store, semi["cifar10", "baseline", "semi_10"][0], 40.0, dataset_complete=False)
    finish(store, semi["cifar10", "cds_simclr", "semi_10"][0], 43.0, dataset_complete=False)
    frame = verdicts.tidy("mini", SEEDS, store)

    def why(**wanted):
        return only(frame, **{"kind": "baseline", "claimed_in": "table1_cifar100"} | wanted)["why"]

    few = "and fewer than 3 decide nothing"
    assert why(model="resnet18", method="cds") == f"2 seeds, {few}"
    assert why(model="resnet18", method="dsn") == f"1 seed, {few}"
    assert why(model="resnet18", method="dks") == "not trained yet"
    assert why(model="resnet101", method="dsn") == "a run failed: out of memory"
    assert why(kind="poster", model="mean of 10 networks") == "only 2 of the 10 cells of the average were trained"
    semi10 = why(claimed_in="semi_supervised", dataset="cifar10", setting="semi_10")
    assert semi10 == f"1 seed, {few}; only a part of CIFAR-10 was at hand"
    flowers = why(claimed_in="table6_finegrained", dataset="flowers102", method="cds")
    assert flowers == "nothing was trained on Flowers-102: not asked for, or the images were not at hand"
    text = "\n".join(wording.conclusion(frame))
    causes = frame[frame["verdict"] == "not run"]["cause"].value_counts()
    assert causes["failed"] == 2 and causes.sum() == len(frame[frame["n_pairs"] == 0]) and "" not in causes
    assert "2 because a run failed" in text and "on ImageNet, " in text and "the average, was trained" in text
    assert "on an incomplete copy of the data set: 1 claim (" in text


def test_the_lesson_on_made_data_says_nothing_of_the_real_set(store):
    """The first notebook's runs are called CIFAR-10, and their images are never complete."""
    finish(store, TABLES["00_start_here"].runs("smoke", None)[1], 50.0, dataset_complete=False)
    where = {"claimed_in": "semi_supervised", "dataset": "cifar10", "setting": "semi_10"}

    def why():
        frame = verdicts.tidy("mini", SEEDS, store)
        return frame[(frame[list(where)] == pd.Series(where)).all(axis=1)].iloc[0]["why"]

    assert why() == "nothing was trained on CIFAR-10: not asked for, or the images were not at hand"
    for method in ("baseline", "cds_simclr"):
        finish(store, settings.semi_supervised("mini", "cifar10", method, 10, 0), 20.0)
    assert why() == "1 seed, and fewer than 3 decide nothing"


def test_an_average_is_planned_with_as_many_seeds_as_its_poorest_cell(store):
    frame = verdicts.tidy("mini", None, store)
    average = frame[(frame["claimed_in"] == "table1_cifar100") & (frame["kind"] == "poster")].iloc[0]
    assert average["n_planned"] == 1  # nine of the ten networks


# -- in words and in files ---------------------------------------------------------------------------------------------


def decided(store):
    """Table 1: DSN better at every seed, CDS worse, DKS mixed, on one network."""
    gains = {"baseline": (0, 0, 0), "dsn": (1, 1.1, 0.9), "cds": (-2, -2.1, -1.9), "dks": (2, -2, 1)}
    table1(store, lambda m, how, seed: 30 + seed + gains[how][seed] if how in gains else None, models=("resnet18",))
    return verdicts.tidy("mini", SEEDS, store)


def test_the_conclusion_says_what_was_confirmed_and_what_not(store):
    frame = decided(store)
    sentences = wording.conclusion(frame)
    assert sentences[0].startswith(f"Of {len(frame)} claims (differences of published numbers, ")
    assert sentences[0].endswith(f", {wording.in_words(frame)}.")
    assert sum(wording.counts(frame).values()) == len(frame)
    assert not any("none" in sentence for sentence in sentences)
    few = frame[frame["verdict"] != "contradicted"]
    assert wording.conclusion(few)[1] == "Contradicted: none."
    assert "Table 2, Distillation on CIFAR-100" in sentences[-1]
    untested = int(
        sum(
            part.split()[0].isdigit() and int(part.split()[0])
            for s in sentences
            if s.startswith("Not tested: ")
            for part in s.removeprefix("Not tested: ").split("; ")
        )
    )
    assert untested == wording.counts(frame)["not run"]


def test_verdicts_before_all_seeds_are_there_are_called_interim(store):
    frame = decided(store)
    assert not any(sentence.startswith("Interim") for sentence in wording.conclusion(frame))  # all three are there
    number = len(frame[frame["verdict"].isin(("direction confirmed", "contradicted"))])
    (said,) = [s for s in wording.conclusion(frame.assign(n_planned=6)) if s.startswith("Interim")]
    assert said.startswith(
        f"Interim: of the {number} claims that the interval decides, {number} with fewer seeds than "
    )


def test_tested_claims_are_named_decided_ones_first(store):
    frame = decided(store)
    where, seeds = "CIFAR-100, ResNet-18, from scratch, top-1", ("3 of 6", "0.250", "0.750")
    lines = [line.strip("| ").split(" | ") for line in summary.tested_markdown(frame).splitlines()]
    assert lines[2] == [
        "DSN beats the baseline",
        where,
        "+0.85",
        "+1.00 [+0.75, +1.25]",
        *seeds,
        "↗ direction confirmed",
    ]
    assert lines[3] == ["CDS beats the baseline", where, "+3.39", "−2.00 [−2.25, −1.75]", *seeds, "✘ contradicted"]
    verdicts_shown = [line[-1].split(" ", 1)[1] for line in lines[2:]]
    order = ["direction confirmed", "contradicted", "inconclusive"]
    assert verdicts_shown == sorted(verdicts_shown, key=order.index)
    tested = frame[(frame["n_pairs"] >= 3)]
    assert len(verdicts_shown) == len(tested) == 6
    assert summary.tested_markdown(frame, 2).endswith("\n\nAnd 4 more.")
    assert summary.tested_markdown(frame, 2).splitlines()[:4] == summary.tested_markdown(frame).splitlines()[:4]
    nothing = frame[frame["n_pairs"] < 3]
    assert summary.tested_markdown(nothing) == ""


def test_counts_add_up_in_every_form(store):
    frame = decided(store)
    for by_kind in (True, False):
        lines = [line.strip("| ").split(" | ") for line in summary.counts_markdown(frame, by_kind).splitlines()]
        for line in lines[2:]:
            assert int(line[1]) == sum(map(int, line[2:]))
        assert sum(int(line[1]) for line in lines[2:]) == len(frame)
        for column, number in enumerate(wording.counts(frame).values(), start=2):
            assert sum(int(line[column]) for line in lines[2:]) == number


def test_less_may_be_better_or_neither(store):
    row = verdicts.tidy("mini", SEEDS, store).assign(method="cds", reference="baseline", paper_delta=-6.65).iloc[0]
    said = {name: wording.statement(pd.Series({**row, "metric": name})) for name in ("ece", "train_cross_entropy")}
    assert said == {"ece": "CDS beats the baseline", "train_cross_entropy": "CDS is below the baseline"}
    assert wording.statement(row) == "CDS trails the baseline"


def test_what_an_analysis_lacks_is_said(store):
    for method in ("baseline", "cds"):
        (cell,) = (c for c in TABLES["calibration"].cells("mini", SEEDS) if (c.method, c.metric) == (method, "ece"))
        for spec in cell.specs:
            finish(store, spec, 30.0)
    row = only(verdicts.tidy("mini", SEEDS, store), claimed_in="calibration")
    assert (row["n"], row["verdict"], row["reason"]) == (0, "not run", "3 finished runs without weights")
    assert row["why"] == "trained, but not measured: 3 finished runs without weights"


def test_a_finished_run_without_its_history_is_named(store):
    spec = TABLES["training_loss"].cells("mini", SEEDS)[0].specs[0]
    finish(store, spec, 30.0)
    (store.run_dir(spec.id) / "history.csv").unlink()
    with pytest.raises(RunError, match=f"{spec.id}.*train_cross_entropy.*delete"):
        verdicts.tidy("mini", SEEDS, store)


def test_a_smoke_summary_judges_nothing(store):
    for spec in TABLES["table1_cifar100"].runs("smoke", (0,)):
        finish(store, spec, 50.0)
    frame = verdicts.tidy("smoke", (0,), store)
    tested = frame[frame["n_pairs"] > 0]
    assert set(tested["verdict"]) == {"not meaningful (smoke)"} and set(tested["claimed_in"]) == {
        "table1_cifar100",
        "training_loss",
    }
    (sentence,) = wording.conclusion(frame)
    assert "no claim is judged" in sentence


def test_files_round_trip_and_hold_every_claim(store, tmp_path):
    frame = decided(store)
    paths = summary.write(frame, tmp_path)
    pd.testing.assert_frame_equal(verdicts.read(tmp_path), frame, check_exact=True)
    before = {kind: path.read_bytes() for kind, path in paths.items()}
    assert {
        k: p.read_bytes() for k, p in summary.write(verdicts.tidy("mini", SEEDS, store), tmp_path).items()
    } == before
    markdown, latex = before["md"].decode(), before["tex"].decode()
    table_lines = [line for line in markdown.split("\n## ", 1)[1].splitlines() if line.startswith("| ")]
    groups = len(list(summary.groups(frame)))
    assert len(table_lines) == len(frame) + 2 * groups
    assert {line.count(" | ") for line in table_lines} == {len(summary.HEADINGS) - 1}
    body = latex[latex.index(r"\endhead") :]
    assert sum(line.endswith(r" \\") for line in body.splitlines()) == len(frame) + groups
    assert not any(sign in latex for sign in "✔↗✘○") and "CIFAR-100" in latex


def test_paired_seeds_are_of_those_that_are_wanted_or_say_how_many_a_verdict_needs(store):
    alone = verdicts.tidy("mini", None, store)  # ResNet-18 has six seeds, the other networks one
    table1 = rows(alone, claimed_in="table1_cifar100", method="cds", reference="baseline")
    printed = {row["model"]: summary.cells(row)["paired seeds"] for _, row in table1.iterrows()}
    assert (printed["resnet18"], printed["resnet50"]) == ("0 of 6", "0 (3 needed)")
