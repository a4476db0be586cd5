"""The cost of runs: published operation counts, real steps, and the duration of similar runs.

The GMAC are those of the released networks: 0.556 and 1.298 per CIFAR view, 0.575 and 1.603 with the heads; on ImageNet
1.81, 3.66 and 4.09 with the max-pool, 6.90, 14.30 and 16.00 without. One multiply-accumulate is two operations.
"""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, RetinaNet_ResNet50_FPN_Weights

from cds_lib.study.commands import costs, dry_run
from cds_lib.study.engines import build
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.runner import Plan
from cds_lib.study.engines.setup import prepare
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from cds_lib.study.tables.contrastive_methods import contrastive
from cds_lib.study.tables.table4_coco import detector
from cds_lib.study.tables.table6_finegrained import finetuned
from run_folders import write_run

GIGA_MACS = 2e9
FINE = finetuned("mini", "cub200", "resnet50", "cds", "finetune", 0)


def train_macs(spec):
    """Return the GMAC of a training step per image."""
    return costs.step_cost(spec).train_flops / GIGA_MACS / spec.budget.batch_size


def paper(dataset, model, method, stem=None):
    return settings.supervised("paper", dataset, model, method, 0, stem)


def stem_macs(spec):
    """Return the GMAC per image of the stem convolution, whose input needs no gradient."""
    side, kernel = (32, 3) if spec.budget.stem == "cifar" else (112, 7)
    return side**2 * kernel**2 * 3 * 64 / 1e9


@pytest.mark.parametrize(
    ("dataset", "model", "stem", "giga_macs"),
    [
        ("cifar100", "resnet18", None, 0.556),
        ("cifar100", "resnet50", None, 1.298),
        ("imagenet", "resnet18", None, 1.81),
        ("imagenet", "resnet34", None, 3.66),
        ("imagenet", "resnet50", None, 4.09),
        ("imagenet", "resnet18", settings.NO_MAX_POOL, 6.90),
        ("imagenet", "resnet34", settings.NO_MAX_POOL, 14.30),
        ("imagenet", "resnet50", settings.NO_MAX_POOL, 16.00),
    ],
)
def test_a_plain_step_is_three_forward_passes_without_the_gradient_of_the_images(dataset, model, stem, giga_macs):
    spec = paper(dataset, model, "baseline", stem)
    assert costs.step_cost(spec).eval_flops / GIGA_MACS == pytest.approx(giga_macs, abs=0.006)
    assert train_macs(spec) == pytest.approx(3 * giga_macs - stem_macs(spec), abs=0.02)


@pytest.mark.parametrize(("model", "giga_macs", "width"), [("resnet18", 0.575, 512), ("resnet50", 1.603, 2048)])
def test_a_cds_step_is_two_views_with_heads_and_two_products_a_tap(model, giga_macs, width):
    spec = paper("cifar100", model, "cds")
    contrastive = 4 * 2 * 256**2 * width / 1e9 / 128  # upper bound: the loss computes no similarity twice
    expected = 2 * (3 * giga_macs - stem_macs(spec)) + contrastive
    assert train_macs(spec) == pytest.approx(expected, rel=0.002)
    assert costs.step_cost(spec).eval_flops == costs.step_cost(paper("cifar100", model, "baseline")).eval_flops


def test_teachers_and_rotations_count():
    student, teacher = 3 * 1.814 - 0.118, 4.089
    spec = {method: settings.distilled("paper", "imagenet", "resnet18", method, 0) for method in ("kd", "sskd", "crd")}
    assert train_macs(spec["kd"]) == pytest.approx(student + teacher, rel=0.002)
    assert train_macs(spec["sskd"]) == pytest.approx(4 * (student + teacher), rel=0.002)
    # Two banks with 128 numbers per image; products with all of them, forward and backward to the anchors.
    assert train_macs(spec["crd"]) - train_macs(spec["kd"]) == pytest.approx(4 * 1_281_167 * 128 / 1e9, rel=0.01)
    # SSKD's teacher trains a small head on a frozen network: 4 forward passes.
    assert train_macs(spec["sskd"].parent) == pytest.approx(4 * teacher, rel=0.01)


def test_a_large_batch_is_counted_where_the_loss_works_in_blocks():
    spec = contrastive("paper", "supcon", 0).parent
    pooled = 128  # dimensions of SupCon's projection
    products = 3 * (2 * spec.budget.batch_size) * 2 * pooled / 1e9  # GMAC per image: one product forward, two backward
    assert train_macs(spec) == pytest.approx(2 * (3 * 4.087 - 0.118 + 3 * 0.0044) + products, rel=0.005)


@pytest.mark.parametrize(
    ("name", "weights", "close"),
    [
        ("faster_rcnn", FasterRCNN_ResNet50_FPN_Weights.COCO_V1, 0.001),
        ("retinanet", RetinaNet_ResNet50_FPN_Weights.COCO_V1, 0.02),  # torchvision has 91 classes, this detector 81
    ],
)
def test_detectors_cost_what_torchvision_states(name, weights, close):
    spec = detector("paper", name, "baseline", 0)
    square = replace(spec, budget=replace(spec.budget, source="standin"))  # at 800 x 800 pixels, as torchvision states
    assert costs._count(square).eval_flops / GIGA_MACS == pytest.approx(weights.meta["_ops"], rel=close)
    assert costs.step_cost(spec).eval_flops > costs.step_cost(square).eval_flops


def test_the_throughput_belongs_to_the_same_way_of_counting():
    spec = paper("cifar10", "resnet18", "baseline")
    run = costs.run_cost(replace(spec, budget=replace(spec.budget, epochs=200, eval_every=200)))
    assert run.flops / 1e15 == pytest.approx(32.3, rel=0.05)
    assert round(32.3e15 / (7 * 60) / 1e12) == costs.TERAFLOPS
    assert costs.Cost(flops=77e12 * 3600).gpu_hours == 1


SMOKE = [
    settings.supervised("smoke", "cifar100", "resnet18", "cds", 0),
    settings.supervised("smoke", "cifar100", "preactresnet18", "dks", 0),
    detector("smoke", "retinanet", "baseline", 0),
]


@pytest.mark.parametrize("spec", SMOKE, ids=lambda spec: f"{spec.model} {spec.method}")
def test_counts_are_those_of_real_steps(spec, store, tmp_path):
    if spec.parent:
        method = build.classifier(spec.parent, 1000)
        store.run_dir(spec.parent.id).mkdir(parents=True)
        torch.save({"method": method.state_dict(), "spec": spec.parent.canonical}, store.model(spec.parent.id))
    run = prepare(spec, store, tmp_path, torch.device("cpu"))
    run.method.train()
    views, labels, _ = next(run.batches.epoch(0))
    counted = costs._flops(lambda: sum(run.method(*views, labels=labels).values()).backward())
    assert counted == costs.step_cost(spec).train_flops


def test_grouped_convolutions_cost_three_forward_passes_too():
    spec = paper("cifar100", "resnext50_32x4d", "baseline")
    forward = costs.step_cost(spec).eval_flops / GIGA_MACS
    assert train_macs(spec) == pytest.approx(3 * forward - stem_macs(spec), rel=1e-4)


def test_products_that_add_in_place_are_counted():
    total = torch.empty(3, 4, 5, device="meta")
    left, right = torch.empty(3, 4, 7, device="meta"), torch.empty(3, 7, 5, device="meta")
    assert costs._flops(lambda: total.baddbmm_(left, right)) == 2 * 3 * 4 * 7 * 5


@pytest.mark.parametrize("method", ["baseline", "baseline_matched", "cds_simclr"])
def test_images_are_those_that_the_run_is_given(method, tmp_path):
    spec = settings.semi_supervised("smoke", "cifar10", method, 30, 0)
    run = prepare(spec, Store(tmp_path), tmp_path, torch.device("cpu"))
    assert costs.image_counts(spec)[0] == run.batches.used


def test_disk_is_that_of_a_finished_run(tmp_path):
    spec = settings.supervised("smoke", "cifar100", "resnet18", "cds", 0)
    spec = replace(spec, budget=replace(spec.budget, width=0.25, epochs=1))
    store, sizes = Store(tmp_path), []

    def look(_: float) -> None:
        if store.checkpoint(spec.id).exists():
            sizes.append(store.checkpoint(spec.id).stat().st_size)

    execute(spec, store, tmp_path, device="cpu", on_progress=look)
    cost = costs.run_cost(spec)
    # The file also stores a name and alignment for every tensor.
    assert cost.model_bytes < store.model(spec.id).stat().st_size < 1.15 * cost.model_bytes
    assert cost.checkpoint_bytes < sizes[-1] < 1.15 * cost.checkpoint_bytes


@pytest.mark.parametrize(
    ("spec", "images"),
    [
        (settings.semi_supervised("paper", "cifar10", "baseline", 10, 0), (5_000, 10_000)),
        (settings.semi_supervised("paper", "cifar10", "cds_simclr", 10, 0), (50_000, 10_000)),
        (settings.supervised("mini", "cifar10", "resnet18", "cds", 0), (5_000, 12_000)),
        (FINE, (5_994, 5_794)),
        (replace(FINE, budget=replace(FINE.budget, train_size=33)), (32, 5_794)),  # batches of one image are left out
    ],
)
def test_images_of_an_epoch_and_of_an_evaluation(spec, images):
    assert costs.image_counts(spec) == images


def test_a_run_is_its_steps_and_its_evaluations():
    spec = settings.semi_supervised("paper", "cifar10", "baseline", 10, 0)
    budget = replace(spec.budget, epochs=7, eval_every=3)  # evaluated after epochs 3, 6 and 7
    step = costs.step_cost(spec)
    trained = step.train_flops / budget.batch_size * 5_000 * 7
    assert costs.run_cost(replace(spec, budget=budget)).flops == trained + 3 * 10_000 * step.eval_flops


def test_shared_runs_count_once():
    one = [paper("cifar100", "resnet18", method) for method in ("baseline", "cds")]
    other = [one[0], settings.distilled("paper", "cifar100", "resnet18", "kd", 0)]
    assert costs.total([*one, *other]) == costs.total([*one, other[1]])
    assert costs.total(one).flops == sum(costs.run_cost(spec).flops for spec in one)
    assert costs.total(one).checkpoint_bytes == costs.run_cost(one[1]).checkpoint_bytes
    assert costs.total([]) == costs.Cost()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.001234, "0.00123"), (12.34, "12.3"), (99.96, "100"), (12345.6, "12,346")]
)
def test_numbers_are_short(value, text):
    assert dry_run.number(value) == text


# -- the estimate of --dry-run -----------------------------------------------------------------------------------------


def said(store, done, missing):
    plan = Plan(done=tuple(done), missing=tuple(missing), failed=())
    return "\n".join(dry_run.lines(plan, [], "smoke", None, store, store.root))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Stand in for the results folder of the checkout."""
    monkeypatch.setattr(dry_run, "results_dir", lambda profile: tmp_path / "elsewhere")
    return Store(tmp_path / "elsewhere")


def test_the_likest_finished_runs_decide(tmp_path, elsewhere):
    store, cds = Store(tmp_path / "own"), settings.supervised("smoke", "cifar100", "resnet18", "cds")
    other = replace(cds, options={**cds.options, "weight": 9.0})
    assert "Very roughly" not in said(store, [], [cds])
    write_run(elsewhere, cds, {"seconds": 40.0})  # results of the checkout count too
    assert "Very roughly 40 s of training for 1 run of 1 in sequence," in said(store, [], [cds])
    write_run(store, cds.with_seed(1), {"seconds": 60.0})
    write_run(store, other, {"seconds": 1000.0})
    seeds = [cds.with_seed(2), replace(cds, model="resnet50"), replace(cds, dataset="cub200", setting="finetune")]
    text = said(store, [cds.with_seed(1), other], seeds)
    # Runs that differ only in the seed take 50 s (40 and 60); runs on the same data set take 366.7 s (with 1000).
    assert "Very roughly 6 min 57 s of training for 2 runs of 3 in sequence," in text
