"""What the analyses answer: sentences that the runs decide, whatever they say, and none without them."""

import json

import pytest

from cds_lib.findings import answers, comparisons
from cds_lib.session import open_study
from cds_lib.study import analyses
from cds_lib.study.store import Store
from cds_lib.study.tables import deviations
from run_folders import top1, write_run

SWITCHES = {switch.row: switch for switch in deviations.SWITCHES}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def run_of(row, seed, profile="mini"):
    """The run of ResNet-18 on CIFAR-100 that fills this row of Table 1 or of the switches."""
    switch = SWITCHES.get(row)
    spec = deviations.default_run(profile, switch.default if switch else row, seed)
    return switch.change(spec) if switch else spec


def analysed(store, spec, name, values):
    path = analyses.path(store, spec.id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    analysis = analyses.ANALYSES[name]
    belongs = {"analysis": name, "run": spec.id, "version": analysis.version, "parameters": analysis.parameters}
    belongs["compared_with"] = analyses.baseline_of(spec).id if analysis.compares else None
    bins = {"counts": [1], "confidence": [50.0], "accuracy": [50.0]}
    path.write_text(json.dumps({**belongs, "values": values, "diagram": bins}))


def calibrated(store, row, ece, nll):
    """Runs of seeds 0, 1, ... with these calibration errors (none for a row that is not analysed) and NLL."""
    for seed, value in enumerate(nll):
        spec = run_of(row, seed)
        write_run(store, spec, top1(20.0) | {"test_loss_last": value})
        if ece:
            analysed(store, spec, "calibration", {"ece": ece[seed], "nll": value})


def test_calibration_is_set_against_dsn_and_the_second_view(store):
    calibrated(store, "cds", [20.0, 21.0, 22.1], [3.4, 3.5, 3.61])
    calibrated(store, "dsn", [18.0, 19.0, 20.0], [3.4, 3.5, 3.6])
    calibrated(store, "dks", [], [3.2, 3.3, 3.4])
    calibrated(store, "baseline_two_views", [], [3.6, 3.7, 3.8])
    ece, nll, order, control = answers.calibration("mini", None, store)
    assert ece.startswith("CDS minus DSN in ECE, percentage points: +2.03 [+1.89, +2.18] (n = 3, p = 0.250), above 0 ")
    assert ece.endswith("above 0 in 3 of 3: CDS is calibrated worse than DSN.")
    assert nll.endswith("above 0 in 1 of 3: the two are not told apart.")
    assert order.endswith(
        ": DKS 3.300 (3); DSN 3.500 (3); CDS 3.503 (3); baseline, cross-entropy of two views 3.700 (3)."
    )
    assert control.endswith("above 0 in 0 of 3: CDS has the lower NLL, in which accuracy counts too.")


def test_calibration_of_few_seeds_decides_nothing_and_of_none_says_nothing(store):
    assert answers.calibration("mini", None, store) == []
    calibrated(store, "cds", [20.0], [3.4])
    assert answers.calibration("mini", None, store) == []
    calibrated(store, "dsn", [18.0], [3.5])
    ece, nll, order = answers.calibration("mini", None, store)
    assert ece.endswith("+2.00 (n = 1), above 0 in 1 of 1: fewer than 3 seeds decide nothing.")
    assert answers.calibration("smoke", None, store) == []


def trained(store, row, losses, accuracies, profile="mini"):
    for seed, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        history = f"epoch,train_cross_entropy\n1,4.5\n2,{loss}\n"
        write_run(store, run_of(row, seed, profile), top1(accuracy) | {"epochs": 2}, history=history)


def test_a_higher_training_loss_is_set_beside_the_gain(store):
    trained(store, "baseline", [1.0, 1.1, 1.2], [20.0, 21.0, 22.0])
    trained(store, "cds", [1.1, 1.2, 1.3], [23.0, 24.0, 25.0])
    (alone,) = answers.training_loss("mini", None, store)
    assert alone.endswith("CDS +0.100 [+0.100, +0.100] nats and +3.00 [+3.00, +3.00] points (n = 3).")
    trained(store, "dks", [1.5, 1.6, 1.7], [22.0, 23.0, 24.0])
    trained(store, "dhm", [1.5, 1.6, 1.7], [23.0, 24.0, 25.1])  # as accurate as CDS
    rises, order = answers.training_loss("mini", None, store)
    assert rises.index("CDS +0.100") < rises.index("DKS +0.500")
    assert "DKS ended with a higher training loss than CDS and with a lower accuracy" in order and "DHM" not in order


def test_a_contradiction_is_explained_only_where_there_is_one(store):
    trained(store, "baseline", [1.0, 1.1, 1.2], [20.0, 21.0, 22.0])
    trained(store, "cds", [0.9, 1.0, 1.1], [23.0, 24.0, 25.0])
    *_, last = answers.training_loss("mini", None, store)
    assert last.startswith("Contradicted: ")
    trained(store, "cds", [0.9, 1.1, 1.3], [23.0, 24.0, 25.0])
    assert not any("Contradicted" in said for said in answers.training_loss("mini", None, store))
    for row, losses in (("baseline", [1.0, 1.1, 1.2]), ("cds", [0.9, 1.0, 1.1])):  # the full protocol is not short
        trained(store, row, losses, [20.0, 21.0, 22.0], "paper")
    assert answers.training_loss("paper", None, store) and not any(
        "Contradicted" in said for said in answers.training_loss("paper", None, store)
    )


def test_the_training_loss_says_nothing_of_no_run_or_smoke(store):
    assert answers.training_loss("mini", None, store) == answers.training_loss("smoke", None, store) == []


def test_each_prediction_of_the_early_blocks_is_answered(store):
    blocks = ("1.1", "1.2", "2.1", "2.2")
    gains = {"dsn": (-1.0, -1.0, 0.0, 1.0), "cds": (1.0, 1.0, 1.0, 1.0)}
    for method in ("baseline", "dsn", "cds"):
        for seed, spread in enumerate((-0.01, 0.0, 0.01)):
            spec = run_of(method, seed)
            write_run(store, spec, top1(20.0))
            gain = gains.get(method, (0.0,) * 4)
            transfer = {
                f"transfer_top1_{b}": 30.0 + seed + g + spread * (g or 1) for b, g in zip(blocks, gain, strict=True)
            }
            later = {f"transfer_top1_{block}": 40.0 for block in ("3.1", "3.2", "4.1", "4.2")}
            analysed(store, spec, "transfer", transfer | later)
    alone, _ = answers.layerwise("mini", (0,), store)
    assert "worse than the baseline: fewer than 3 seeds decide nothing (linear probe on CIFAR-10, " in alone
    dsn, cds = answers.layerwise("mini", None, store)  # nothing is known of the other two
    assert dsn.startswith(
        "Predicted of early layers, that DSN serves other classes worse than the baseline: so at blocks 1.1, 1.2; not "
        "told apart at block 2.1; the opposite at block 2.2 (linear probe on CIFAR-10, DSN minus baseline, n = 3: 1.1 "
    )
    assert ": so at blocks 1.1, 1.2, 2.1; not told apart at block 2.2 (" in cds
    assert answers.layerwise("smoke", None, store) == []


def test_the_last_block_is_not_compared_with_itself(store):
    frame = open_study("layerwise_accuracy", profile="mini", results=str(store.root)).frame()
    assert "cka_last_4.1" in set(frame["metric"]) and "cka_last_4.2" not in set(frame["metric"])
    assert "cka_baseline_4.2" in set(frame["metric"])


def test_what_an_interval_says():
    def outcome(*values):
        return comparisons.compare(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))[0]

    assert [outcome(1, 1.1, 1.2), outcome(-1, -1.1, -1.2), outcome(-1, 0, 1), outcome(1, 1)] == [
        comparisons.ABOVE,
        comparisons.BELOW,
        comparisons.OPEN,
        comparisons.FEW,
    ]
