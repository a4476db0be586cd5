"""Analyses of two real, tiny runs: features computed once, results readable without weights, faults as sentences."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest
import torch

from cds_lib.study import analyses
from cds_lib.study.engines import analyse as module
from cds_lib.study.engines import analysis_engine
from cds_lib.study.engines.analyse import FinishedRun, analyse, compute
from cds_lib.study.engines.execute import execute
from cds_lib.study.errors import RunError
from cds_lib.study.measures import measure, short_name
from cds_lib.study.plan import settings
from cds_lib.study.report.frame import results, tidy
from cds_lib.study.report.table_files import read_table, write_table
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES, _headline
from run_folders import change_json

NAMES = ("training_loss", "linear_probe", "layerwise_accuracy", "calibration", "tsne")
CPU = torch.device("cpu")


def run(method):
    return settings.supervised("smoke", "cifar100", "resnet18", method, 0)


pytestmark = pytest.mark.xdist_group("analyses")  # the fixture is costly: once, in one process


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a store with a finished baseline and a finished CDS run, analysed by one process."""
    store = Store(tmp_path_factory.mktemp("analysed"))
    store.open_for_writing()
    for method in ("baseline", "cds"):
        execute(run(method), store, None, device="cpu")
        names = [name for name in analyses.ANALYSES if (method, name) != ("baseline", "gradients")]  # it has one loss
        assert analyse(run(method), names, store, None) == {}
    return store


@pytest.fixture
def store(trained, tmp_path):
    """Return a copy that a test may change."""
    shutil.copytree(trained.root, tmp_path / "copy")
    return Store(tmp_path / "copy")


def frames(store):
    return {name: tidy(results(TABLES[name], "smoke", (0,), store)) for name in NAMES}


def test_tables_are_filled_and_only_what_was_not_trained_is_missing(trained):
    for name, frame in frames(trained).items():
        for _, row in frame.iterrows():
            assert row["n"] == (0 if row["method"] == "dsn" else 1), (name, row["metric"], row["method"])
        assert (frame["reason"] == "").all()
    sizes = {name: len(frame) for name, frame in frames(trained).items()}
    assert sizes == {"training_loss": 6, "linear_probe": 12, "layerwise_accuracy": 109, "calibration": 9, "tsne": 24}


def test_values_agree_with_the_run_and_with_each_other(trained):
    found = {name: frame.set_index(["metric", "method"])["mean"] for name, frame in frames(trained).items()}
    for method in ("baseline", "cds"):
        metrics = trained.metrics(run(method).id)
        diagram = analyses.read(trained, run(method).id, "calibration")["diagram"]
        assert diagram["top1"] == pytest.approx(metrics["test_top1_last"])
        assert found["calibration"]["nll", method] == pytest.approx(metrics["test_loss_last"], rel=1e-5)
        assert sum(diagram["counts"]) == 1000
        last = trained.history(run(method).id).iloc[-1]
        assert found["training_loss"]["train_cross_entropy", method] == pytest.approx(last["train_cross_entropy"])
        for stage in range(1, 5):  # the result of a stage is that of its last block
            block = found["layerwise_accuracy"][f"probe_top1_{stage}.2", method]
            assert found["linear_probe"][f"probe_top1_stage{stage}", method] == block
        assert analyses.read(trained, run(method).id, "similarity")["values"]["cka_last_4.2"] == pytest.approx(1)
    values = analyses.read(trained, run("baseline").id, "similarity")["values"]
    assert values["cka_baseline_1.1"] == pytest.approx(1)


def test_a_network_is_shown_its_images_as_its_run_was(tmp_path):
    """A run with another augmentation has other statistics and uses the centre of its larger images."""
    store = Store(tmp_path)
    store.open_for_writing()
    spec = settings.supervised("smoke", "imagenet", "resnet18", "baseline", 0)
    spec = replace(spec, budget=replace(spec.budget, epochs=1, train_size=1_000))
    execute(spec, store, None, device="cpu")
    found = FinishedRun(spec, store, None, CPU).features("test")
    loss = torch.nn.functional.cross_entropy(found.logits, found.labels).item()
    assert loss == pytest.approx(store.metrics(spec.id)["test_loss_last"], rel=1e-4)


def test_a_result_says_what_it_depends_on(trained):
    result = analyses.read(trained, run("cds").id, "transfer")
    assert (result["run"], result["seed"], result["compared_with"]) == (run("cds").id, 0, None)
    assert {name: len(data["sha256"]) for name, data in result["data"].items()} == {"cifar100": 64, "cifar10": 64}
    assert result["code"] and result["versions"]["torch"]
    assert analyses.read(trained, run("cds").id, "similarity")["compared_with"] == run("baseline").id


def test_every_metric_has_a_name_and_every_baseline_is_the_run_of_its_table():
    for profile in ("smoke", "mini", "paper"):
        for name in NAMES:
            for cell in TABLES[name].cells(profile, (0, 1)):
                assert measure(cell.metric) and short_name(cell.metric)
                for spec in cell.specs:
                    baseline = settings.supervised(profile, "cifar100", "resnet18", "baseline", spec.seed)
                    assert analyses.baseline_of(spec).id == baseline.id
    table1 = {spec.id for spec in TABLES["table1_cifar100"].runs("mini", (0, 1, 2))}
    assert all({spec.id for spec in TABLES[name].runs("mini", (0, 1, 2))} <= table1 for name in NAMES)


# -- the features ------------------------------------------------------------------------------------------------------


def test_features_are_computed_once(trained, monkeypatch):
    passes, real = [], module.extract
    monkeypatch.setattr(module, "extract", lambda *arguments: passes.append(1) or real(*arguments))
    cds = FinishedRun(run("cds"), trained, None, CPU)
    for _ in range(2):
        for part in ("train", "test"):
            assert list(cds.features(part).blocks) == list(_headline.BLOCKS)
        assert cds.features("val") is None  # the run has no validation images
    assert len(passes) == 2


def test_training_again_drops_what_was_measured_of_the_old_weights(store):
    spec = run("baseline")
    assert list(store.run_dir(spec.id).glob("analysis/*.json"))
    store.model(spec.id).unlink()
    execute(spec, store, None, device="cpu")
    assert not list(store.run_dir(spec.id).glob("analysis/*.json"))


# -- what is missing ---------------------------------------------------------------------------------------------------


def todo(store, *names):
    possible, impossible = analyses.missing([TABLES[name] for name in names or NAMES], "smoke", (0,), store)
    return [{task.spec.method: task.names for task in tasks} for tasks in (possible, impossible)]


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"parameters": {}}, {"weights": {}}], ids=["version", "parameters", "weights"]
)
def test_a_result_of_another_kind_counts_as_missing(store, change):
    assert todo(store) == [{}, {}]
    change_json(analyses.path(store, run("cds").id, "calibration"), **change)
    assert todo(store) == [{"cds": ("calibration",)}, {}]
    frame = tidy(results(TABLES["calibration"], "smoke", (0,), store))
    row = frame[(frame["method"] == "cds") & (frame["metric"] == "ece")].iloc[0]
    assert (row["n"], row["verdict"], row["reason"]) == (0, "not run", "1 finished run not analysed yet")


@pytest.mark.parametrize("value", ["12.3", float("nan"), float("inf"), True, -0.1, 100.1])
def test_a_value_that_is_no_percentage_is_named(store, value):
    path = analyses.path(store, run("cds").id, "calibration")
    change_json(path, values=json.loads(path.read_text())["values"] | {"ece": value})
    with pytest.raises(RunError, match=f"{path} cannot be read .*: delete it and run again"):
        tidy(results(TABLES["calibration"], "smoke", (0,), store))


def test_a_damaged_result_and_one_of_another_run_are_named(store):
    path = analyses.path(store, run("cds").id, "probe")
    whole = path.read_text()
    for text in ("", whole[:-100], "null"):
        path.write_text(text)
        with pytest.raises(RunError, match=f"{path} cannot be read .*: delete it and run again"):
            analyses.read(store, run("cds").id, "probe")
    path.write_text(whole)
    change_json(path, run=run("baseline").id)
    with pytest.raises(RunError, match=f"{path} cannot be read .its run is {run('baseline').id}.: delete it"):
        analyses.read(store, run("cds").id, "probe")


def test_gradients_are_those_of_the_losses_before_and_after_training(store):
    """Before training, a hundredth of the CDS weight gives a hundredth of the gradient, in the same direction."""
    values = analyses.read(store, run("cds").id, "gradients")["values"]
    assert set(values) == {f"gradient_{what}_{when}" for what in ("ratio", "cosine") for when in ("first", "last")}
    assert values["gradient_ratio_first"] != values["gradient_ratio_last"]
    weight = run("cds").options["weight"]
    weaker = replace(run("cds"), options={**run("cds").options, "weight": weight / 100})
    execute(weaker, store, None, device="cpu")
    found = compute(FinishedRun(weaker, store, None, CPU), "gradients")["values"]
    assert found["gradient_ratio_first"] == pytest.approx(values["gradient_ratio_first"] / 100, rel=1e-4)
    assert found["gradient_cosine_first"] == pytest.approx(values["gradient_cosine_first"], rel=1e-4)


def clone(store):
    """Delete the files that are not committed."""
    for file in [*store.root.glob("runs/*/*.pt"), *store.root.glob("runs/*/features*")]:
        file.unlink()


def compute_missing(store, *names, **options):
    return analysis_engine.compute_missing([TABLES[name] for name in names], "smoke", (0,), store, None, **options)


def test_a_fresh_clone_writes_the_same_tables(store, capsys):
    before = frames(store)
    clone(store)
    assert todo(store) == [{}, {}] and compute_missing(store, *NAMES) == {}
    assert all(frame.equals(before[name]) for name, frame in frames(store).items())
    assert capsys.readouterr().out == ""


def test_a_fresh_clone_says_what_it_cannot_compute(store, capsys):
    clone(store)
    for name in ("similarity", "tsne"):
        analyses.path(store, run("cds").id, name).unlink()
    assert todo(store) == [{}, {"cds": ("similarity", "tsne")}] and compute_missing(store, *NAMES) == {}
    said = capsys.readouterr().out
    assert said.startswith("2 analyses of 1 run cannot be computed: the weights (model.pt) of these runs are not here")
    assert run("cds").id in said
    table = TABLES["tsne"]
    frame = tidy(results(table, "smoke", (0,), store))
    paths = write_table(frame, table, store.root)
    assert paths["md"].read_text().count("1 finished run without weights") == 8
    assert read_table("tsne", store.root).equals(frame)


def test_a_comparison_needs_the_weights_of_both_runs(store):
    analyses.path(store, run("cds").id, "similarity").unlink()
    assert todo(store) == [{"cds": ("similarity",)}, {}]
    store.model(run("baseline").id).unlink()
    assert todo(store) == [{}, {"cds": ("similarity",)}]


def test_a_result_belongs_to_weights_and_not_to_a_time(store):
    for method in ("baseline", "cds"):
        store.write_status(run(method).id, finished="2999-01-01T00:00:00+00:00")  # as if the clock was set back
    assert todo(store) == [{}, {}]
    store.write_status(run("baseline").id, weights="0" * 64)  # as if it was trained again since then
    assert analyses.read(store, run("cds").id, "similarity") is None
    assert analyses.read(store, run("cds").id, "probe")


def test_results_of_version_0_1_0_which_recorded_no_weights_are_believed(store):
    for method in ("baseline", "cds"):
        store.write_status(run(method).id, weights=None)
    for path in store.root.glob("runs/*/analysis/*.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "weights"}))
    assert todo(store) == [{}, {}]
    store.write_status(run("baseline").id, weights="0" * 64)  # as if this version has trained it again
    assert todo(store)[0]["cds"] == ("similarity",)


def test_a_history_without_the_loss_is_named(store):
    path = store.run_dir(run("cds").id) / "history.csv"
    path.write_text(path.read_text().replace("train_cross_entropy", "other", 1))
    with pytest.raises(RunError, match=r"history\.csv has no 'train_cross_entropy': delete the folder"):
        tidy(results(TABLES["training_loss"], "smoke", (0,), store))


# -- faults ------------------------------------------------------------------------------------------------------------


def test_the_engine_goes_on_after_a_failure_and_names_it(store, capsys):
    for method in ("baseline", "cds"):
        analyses.path(store, run(method).id, "calibration").unlink()
    store.model(run("cds").id).write_bytes(b"no weights")
    failed = compute_missing(store, "calibration", jobs=2)
    ((name, sentence),) = failed.items()
    assert name == f"{run('cds').id}, calibration" and "model.pt is damaged" in sentence
    assert analyses.read(store, run("baseline").id, "calibration")
    assert not analyses.path(store, run("cds").id, "calibration").exists()
    said = capsys.readouterr().out
    assert "2 analyses of 2 runs to compute, 2 at a time" in said
    assert "calibration FAILED: " in said and "Traceback" not in said


def test_features_that_do_not_vary_have_no_similarity(store, monkeypatch):
    cds = FinishedRun(run("cds"), store, None, CPU)
    for one in (cds, cds.baseline):
        one.features("test").blocks["2.1"].fill_(1.0)
    monkeypatch.setattr(cds, "views", lambda *arguments: (cds.features("test").blocks,) * 2)
    with pytest.raises(RunError, match=r"no value at block 2\.1: "):
        compute(cds, "similarity")


def test_missing_data_fails_one_analysis_and_not_the_others(store, tmp_path):
    spec = run("cds")
    real = replace(spec, budget=replace(spec.budget, source="real"))  # the real images are missing
    shutil.copytree(store.run_dir(spec.id), store.run_dir(real.id))
    faults = analyse(real, ("probe", "transfer"), store, tmp_path / "none")
    assert "data fetch cifar100" in faults["probe"] and "data fetch cifar10 " in faults["transfer"]


def test_what_another_command_has_computed_meanwhile_is_not_computed_again(store, monkeypatch, capsys):
    """Two commands that waited for the same Slurm jobs start the analyses at the same moment."""
    path = analyses.path(store, run("cds").id, "calibration")
    content = path.read_bytes()
    path.unlink()

    @contextlib.contextmanager
    def lock():
        path.write_bytes(content)
        yield

    monkeypatch.setattr(store, "lock", lock)
    assert compute_missing(store, "calibration", jobs=1) == {} and capsys.readouterr().out == ""
