"""Tiny trainings on real files: runs that start from other runs, detectors, and images too large for memory."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from cds_lib.errors import UsageError
from cds_lib.study.commands import dry_run
from cds_lib.study.data import folders, registry, standin
from cds_lib.study.engines import runner, setup, split
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.errors import RunError
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from cds_lib.study.tables.contrastive_methods import contrastive
from cds_lib.study.tables.table4_coco import detector
from cds_lib.study.tables.table6_finegrained import finetuned
from cds_lib.training import checkpoint
from sweeps import untimed
from toys import write_images

CPU = torch.device("cpu")


def small(spec):
    budget = replace(spec.budget, width=0.0625, train_size=1_000, batch_size=500)
    return replace(spec, model="resnet18", budget=budget, parent=spec.parent and small(spec.parent))


def train(spec, store, data_root="no data", **options):
    for run in spec.lineage:
        execute(run, store, data_root, device="cpu", **options)
    return store.metrics(spec.id)


def weights(spec, store):
    return checkpoint.load(store.model(spec.id), CPU)["method"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("results"))
    store.open_for_writing()
    return store


def test_fine_tuning_starts_from_all_of_the_network_but_its_classifier(store):
    spec = small(finetuned("smoke", "stanford_dogs", "resnet50", "dsn", "finetune", 0))
    spec = replace(spec, budget=replace(spec.budget, train_size=240, batch_size=120))
    execute(spec.parent, store, "no data", device="cpu")
    ready = setup.prepare(spec, store, "no data", CPU)
    before, now = weights(spec.parent, store), ready.method.state_dict()
    shared = [name for name in now if name.startswith("backbone.") and not name.startswith("backbone.fc.")]
    assert len(shared) > 50 and all(torch.equal(now[name], before[name]) for name in shared)
    assert now["backbone.fc.weight"].shape[0] == 120 and before["backbone.fc.weight"].shape[0] == 1000
    assert not torch.equal(now["heads.0.units.0.0.weight"], before["heads.0.units.0.0.weight"])
    assert ready.pretrained == set(shared)
    metrics = train(spec, store)
    assert {"test_top1_last", "test_top5_last"} <= metrics.keys()


def test_a_pre_training_measures_nothing_and_a_linear_classifier_changes_nothing_else(store):
    spec = small(contrastive("smoke", "supcon", 0))
    assert [run.method for run in spec.lineage] == ["supcon", "linear"]
    metrics = train(spec, store)
    assert 0 <= metrics["test_top1_last"] <= 100
    assert not [name for name in store.metrics(spec.parent.id) if name.startswith(("test", "val", "best"))]
    before, after = weights(spec.parent, store), weights(spec, store)
    changed = {name for name in after if name in before and not torch.equal(before[name], after[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}


def test_a_detector_is_trained_on_the_backbone_of_another_run(store):
    spec = detector("smoke", "retinanet", "baseline", 0)
    metrics = train(spec, store)
    assert 0 <= metrics["test_ap_last"] == metrics["test_ap_best"] <= 100
    split = np.load(store.run_dir(spec.id) / "split.npz")
    assert split.files == ["train"] and len(split["train"]) == min(spec.budget.train_size, standin.COCO_TRAIN)
    assert (np.diff(split["train"]) > 0).all() and split["train"][-1] < standin.COCO_TRAIN
    before, after = weights(spec.parent, store), weights(spec, store)
    frozen = [name for name in before if name.startswith(("backbone.conv1", "backbone.layer1")) and "conv" in name]
    found = {name.split("body.")[-1]: value for name, value in after.items() if "body." in name}
    assert frozen and all(torch.equal(found[name.removeprefix("backbone.")], before[name]) for name in frozen)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Import two classes of noisy images of different shapes as Stanford Dogs."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def image(part, label, number):
        shape = (90 + 4 * number, 120, 3) if number % 2 else (120, 90, 3)
        return random.integers(100 * label, 100 * label + 100, shape, dtype=np.uint8)

    write_images(root / "stanford_dogs", {"train": 8, "test": 4}, ("dark", "light"), image, "jpg")
    folders.import_folder(registry.entry("stanford_dogs"), root / "stanford_dogs", root)
    return root


def take_all_images(spec):
    return replace(spec, budget=replace(spec.budget, train_size=5_000))


def check_all_images_were_taken(spec, store):
    split = np.load(store.run_dir(spec.id) / "split.npz")
    assert sorted([*split["train"], *split["val"]]) == list(range(16)) and len(split["val"]) == 4
    assert store.status(spec.id)["data"]["complete"] is False


def test_the_weights_of_a_finished_crd_run_can_be_looked_at(store):
    spec = small(settings.distilled("smoke", "cifar100", "resnet18", "crd", 0))
    train(spec, store)
    method, trained = setup.load_trained(spec, 100, store), weights(spec, store)
    assert method.memory_student.shape[0] == 1_000
    found = method.state_dict()
    assert found.keys() == trained.keys() and all(torch.equal(found[name], trained[name]) for name in trained)


def dogs(image_size, epochs=2):
    spec = settings.supervised("mini", "stanford_dogs", "resnet18", "cds", 0)
    budget = replace(spec.budget, image_size=image_size, width=0.0625, epochs=epochs, batch_size=8, val_size=4)
    return replace(spec, budget=replace(budget, augmentation="imagenet", lr=0.05))


def test_images_too_large_for_memory_are_decoded_as_it_goes(photographs, tmp_path):
    spec = take_all_images(dogs(72))
    assert spec.budget.streamed and runner._without_data([spec], photographs) == {}
    results = []
    for workers in (0, 2):
        store = Store(tmp_path / str(workers))
        store.open_for_writing()
        execute(spec, store, photographs, Resources(workers=workers), device="cpu")
        results.append(untimed(store.metrics(spec.id)))
    assert results[0] == results[1]  # bit for bit, with any number of workers
    check_all_images_were_taken(spec, store)
    assert store.status(spec.id)["data"].items() >= {"kind": "imported", "train": 16, "test": 8}.items()


def test_small_images_are_decoded_once_into_arrays(photographs, tmp_path):
    spec = take_all_images(dogs(28))
    assert not spec.budget.streamed and spec.budget.stored_size == 32
    store = Store(tmp_path)
    store.open_for_writing()
    assert runner._without_data([spec], photographs) == {}
    metrics = train(spec, store, photographs)
    assert metrics["test_top1_last"] >= 50  # dark against light images
    check_all_images_were_taken(spec, store)
    assert list((photographs / "arrays").iterdir())


def test_missing_data_is_one_sentence_before_the_first_run(tmp_path):
    store, lineage = Store(tmp_path / "results"), detector("mini", "retinanet", "cds", 0).lineage
    with pytest.raises(UsageError, match="data (fetch|import)"):
        runner.train_missing(runner.Plan((), lineage, ()), store, tmp_path, LocalEngine())
    assert store.ids() == []


def test_a_set_that_is_too_small_is_one_sentence_wherever_it_is_met(photographs, tmp_path, capsys):
    """There are 16 images, of which these runs hold back 4; some of the runs use batches of 16."""
    there = dogs(28, epochs=1)
    large = [replace(there, seed=seed, budget=replace(there.budget, batch_size=16)) for seed in (0, 1)]
    child = replace(there, setting="finetune", parent=large[0])
    sentence = "Stanford Dogs has 16 training images here: 12 may be trained on, with 4 held back for validation, and a"
    plan, store = runner.Plan((), (*large, child, there), ()), Store(tmp_path / "results")
    said = list(dry_run.lines(plan, [], "mini", None, store, photographs))
    (line,) = [line for line in said if "would not" in line]
    assert line.startswith(f"2 runs would not be trained: {sentence}")
    failed = runner.train_missing(plan, store, photographs, LocalEngine(1))
    assert failed.keys() == {large[0].id, large[1].id, child.id} and store.ids() == [there.id]
    assert capsys.readouterr().out.count(sentence) == 1
    dry_run.say_what_lacks(registry.entry("stanford_dogs"), photographs)
    said = capsys.readouterr().out.splitlines()  # here `mini` holds nothing back and uses batches of 32
    assert all("Stanford Dogs has 16 training images here" in line for line in said)
    assert {line.split(":")[0] for line in said} == {"Profile mini", "Profile paper"}


PLAIN = settings.supervised("mini", "cifar10", "resnet18", "cds", 0)


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        (PLAIN, 300),
        (settings.semi_supervised("mini", "cifar10", "baseline", 10, 0), 1195),  # needs a batch of labelled images
        (settings.semi_supervised("mini", "cifar10", "cds_simclr", 10, 0), 300),  # needs one labelled image per class
        (settings.semi_supervised("mini", "cifar10", "cds_simclr", 2, 0), 675),
    ],
)
def test_a_set_is_too_small_if_it_cannot_be_split_or_has_no_batch(spec, least):
    """There are ten classes, 200 images are held back, and a batch has 100 images."""
    spec = replace(spec, budget=replace(spec.budget, val_size=200, batch_size=100))
    for images in (150, least - 10, least, 3_000):
        assert bool(split.too_small([spec], np.arange(images) % 10, "X")) == (images < least), images


def test_a_class_with_too_few_images_is_named_before_the_first_run():
    labels = np.concatenate([np.zeros(5_000, np.int64), [1]])
    assert "without training images" in split.too_small([PLAIN], labels, "X")[PLAIN.id]


def test_runs_whose_data_is_missing_do_not_keep_the_others_from_training(photographs, tmp_path, capsys):
    there, absent = dogs(28, epochs=1), replace(dogs(28, epochs=1), dataset="cub200")
    child = replace(there, setting="finetune", parent=absent)  # its own data exists, but not that of its parent
    store = Store(tmp_path / "results")
    failed = runner.train_missing(runner.Plan((), (absent, child, there), ()), store, photographs, LocalEngine(1))
    assert failed.keys() == {absent.id, child.id} and set(failed.values()) == {failed[absent.id]}
    assert "CUB-200-2011 is not in" in failed[absent.id] and store.ids() == [there.id]
    said = capsys.readouterr().out
    assert said.count("CUB-200-2011 is not in") == 1 and "2 runs cannot be trained: CUB" in said
    assert "Trained 1 run, 0 failed, 2 lacked their data" in said


def test_images_that_a_run_never_used_are_scored_at_its_end(store):
    spec = small(settings.supervised("smoke", "cifar10", "resnet18", "dsn", 3))
    budget = replace(spec.budget, train_size=400, val_size=100, batch_size=100)
    spec = replace(spec, budget=budget, options={"views": 2})
    metrics = train(spec, store)
    right, data = store.correct(spec.id), store.status(spec.id)["data"]
    assert len(right["test"]) == data["test"] and len(right["unused"]) == data["train"] - 500
    assert 100 * right["test"].mean() == pytest.approx(metrics["test_top1_last"])
    both = np.concatenate([right["test"], right["unused"]])
    assert 100 * both.mean() == pytest.approx(metrics["unseen_top1_last"]) and metrics["unseen_loss_last"] > 0
    history = store.history(spec.id)
    assert history["trained_top1"].tolist()[-1] == metrics["trained_top1_last"]
    with np.load(store.run_dir(spec.id) / "split.npz") as split:
        assert not np.isin(right["unused_index"], np.concatenate([split["train"], split["val"]])).any()
    path = store.run_dir(spec.id) / "correct.npz"
    whole, others = path.read_bytes(), io.BytesIO()
    np.savez(others, **{name: np.packbits(~right[name]) for name in ("test", "unused")})  # results of another run
    for content in (b"", b"no archive", whole[:-30], others.getvalue()):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"correct\.npz cannot be read"):
            store.correct(spec.id)


def test_view_1_may_be_drawn_twice(store):
    """The first view is that of the control. The second has other crops of the same images without colour changes."""
    spec = small(settings.supervised("smoke", "cifar10", "resnet18", "baseline", 0))
    spec = replace(spec, options={"views": 2})
    twice = replace(spec, budget=replace(spec.budget, view1_twice=True))
    (plain, _, index), (drawn, _, same) = (
        next(iter(setup.prepare(run, store, "no data", CPU).batches.epoch(0))) for run in (spec, twice)
    )
    assert torch.equal(index, same) and torch.equal(plain[0], drawn[0])
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(plain[1], drawn[1])
    values, again = ({*map(tuple, view.permute(0, 2, 3, 1).reshape(-1, 3).tolist())} for view in drawn)
    assert len(again & values) > 0.8 * len(again)  # pixels of the same images, with the same colours
    assert twice.id != spec.id and "view1_twice" not in spec.canonical
