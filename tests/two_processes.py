"""Compute results with two processes together, and with one of them alone on the same batches.

`test_distributed.py` runs this in two processes with torchrun's environment variables; rank 0 writes all results.
"""

import copy
from datetime import timedelta
from functools import partial

import numpy as np
import timm
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import toys
from cds_lib.augment.batches import Batches
from cds_lib.evaluation.accuracy import evaluate
from cds_lib.evaluation.detection import evaluate_detection
from cds_lib.methods import ContrastiveDeepSupervision
from cds_lib.models import create_backbone, create_detector
from cds_lib.study.data.coco import CocoImage
from cds_lib.study.data.detection_batches import DetectionBatches, DetectionEvaluation
from cds_lib.study.engines.build import create_method
from cds_lib.training.distributed import Group, joined
from cds_lib.training.loop import fit

CPU = torch.device("cpu")
CLASSES, WIDTH = 4, 0.0625
budget = partial(toys.make_budget, width=WIDTH, cutout=True)
TRAINING_LABELS = torch.arange(16) % CLASSES
# case name -> method, options, whether CDS gathers, whether some images are unlabelled
METHODS = {
    **{name: (name, {}, True, False) for name in "baseline dsn dks dhm linear supcon cds cds_simclr cds_kd kd".split()},
    **{name: (name, {}, True, False) for name in "at rkd sp cc crd sskd_teacher sskd okd".split()},
    "byol": ("byol", {"epochs": 3, "hidden": 16, "dimensions": 8}, True, False),
    "cds_kd_mse": ("cds_kd", {"feature_loss": "mse"}, True, False),
    "cds_unlabelled": ("cds", {}, True, True),
    "cds_released": ("cds", {}, False, False),
    "cds_kd_released": ("cds_kd", {}, False, False),
}


def fixed_norms(method):
    """Return the method in training mode with fixed batch-norm statistics, since batch statistics are per process."""
    method.train()
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return method


def make(name, options):
    """Return the method in double precision, so that differences are not rounding, on any processor."""
    teacher = toys.make_teacher(name, WIDTH) if name in [*toys.TAUGHT, "sskd_teacher"] else None
    method = toys.make(name, width=WIDTH, teacher=teacher, trained_on=TRAINING_LABELS, **options)
    return fixed_norms(method).double()


def steps(case, group):
    """Take two SGD steps, on seven and on five images; return their terms and gradients, and the final state."""
    name, options, gathers, unlabelled = METHODS[case]
    method = make(name, options)
    group.join(method, budget(gather=gathers), CPU)
    parallel = group.parallel(method, method.classifies)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.001)
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(3)
    terms, gradients = [], []
    for total in (7, 5):
        index = torch.randperm(16, generator=generator)[:total]
        views = torch.randn(method.views, total, 3, 8, 8, generator=generator).double()
        labels = TRAINING_LABELS[index].where(torch.arange(total) > 3, -1) if unlabelled else TRAINING_LABELS[index]
        own = group.share.of(total)
        more = {"index": index} if method.needs_index else {}
        count = group.begin_step(total)
        losses = parallel(*views[:, own], labels=labels[own], **more)
        group.weighted(sum(losses.values())).backward()
        means = group.sum(torch.stack([loss.detach() for loss in losses.values()]) * (count / total))
        terms.append(dict(zip(losses, means.tolist(), strict=True)))
        gradients.append({k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None})
        optimizer.step()
        optimizer.zero_grad()
    return {"terms": terms, "gradients": gradients, "state": copy.deepcopy(method.state_dict())}


def released_terms(case):
    """Return the first step's terms if each process contrasts its own images: the mean of both processes."""
    name, options, _, _ = METHODS[case]
    generator = torch.Generator().manual_seed(2)
    index = torch.randperm(16, generator=generator)[:7]
    views = torch.randn(2, 7, 3, 8, 8, generator=generator).double()
    parts = [
        (len(own), make(name, options)(*views[:, own], labels=TRAINING_LABELS[index][own]))
        for own in (torch.arange(4), torch.arange(4, 7))
    ]
    return {term: sum(count * part[term].item() for count, part in parts) / 7 for term in parts[0][1]}


def own_loop(wrapped, own):
    """Return the gradient of CDS in a user's own loop, for some of six images."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    method = fixed_norms(ContrastiveDeepSupervision(network, 3, gather=True)).double()
    views = torch.randn(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1, -1, 0, -1, 1])
    model = wrapped(method)  # must outlive the next line
    sum(model(*views[:, own], labels[own]).values()).backward()
    return {name: p.grad for name, p in method.named_parameters()}


# -- a training, and going on with another number of processes ---------------------------------------------------------


class Stopped(Exception):
    pass


class FixedNorms(ContrastiveDeepSupervision):
    """CDS whose batch norms have fixed statistics."""

    def losses(self, *views, labels):
        fixed_norms(self)
        return super().losses(*views, labels=labels)


def training(group, path, stop_after=None):
    """Train four epochs on 21 images in batches of 8, 8 and 5, test on five images; return rows and final weights."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(256, (21, 3, 8, 8), generator=generator).to(torch.uint8)
    labels = torch.arange(21) % CLASSES
    tested = torch.randn(5, 3, 8, 8, generator=generator)
    own = group.share.of(5)

    def on_epoch(rows):
        if len(rows) == stop_after:
            raise Stopped

    torch.manual_seed(0)
    method = FixedNorms(create_backbone("resnet18", CLASSES, width=WIDTH), CLASSES)
    try:
        rows = fit(
            method,
            Batches(images, labels, batch_size=8, seed=5, share=group.share),
            lambda network: evaluate(network, [(tested[own], labels[:5][own])], group.sum),
            budget(gather=True),
            device=CPU,
            checkpoint_path=path,
            on_epoch=on_epoch,
            group=group,
        )
    except Stopped:
        return None
    return {"rows": rows, "state": copy.deepcopy(method.state_dict())}


# -- detection ---------------------------------------------------------------------------------------------------------


def coco_images(count):
    random = np.random.default_rng(6)
    return [
        CocoImage(
            i, random.integers(0, 256, (3, 64, 64), dtype=np.uint8), 64, 64,
            np.array([[4, 6, 40, 44], [20, 10, 60, 50]], np.float32)[: 1 + i % 2], np.array([1, 2])[: 1 + i % 2],
            np.array([1444, 1600], np.float32)[: 1 + i % 2], np.zeros(1 + i % 2, bool),
        )
        for i in range(count)
    ]  # fmt: skip


def detection(group, name, folder):
    """Train one epoch on five images in batches of 4 and 1, of which the second process has none; test on three."""
    torch.manual_seed(0)
    network = create_backbone("resnet18", 4, stem="imagenet", width=0.125)
    detector = create_detector(name, network, 2, channels=16, box_features=16, min_size=64)
    images = coco_images(5)
    tested = images[:3][group.share.of(3)]
    torch.manual_seed(7)
    rows = fit(
        create_method("detection", detector, 2, {}),
        DetectionBatches(images, batch_size=4, seed=0, device=CPU, workers=0, share=group.share),
        lambda network: evaluate_detection(
            network, DetectionEvaluation(tested, batch_size=2, device=CPU, workers=0), group.collect
        ),
        budget(epochs=1, lr=0.01, batch_size=4),
        device=CPU,
        checkpoint_path=folder / f"{name}-{group.world}.pt",
        on_epoch=lambda rows: None,
        group=group,
    )
    return {"rows": rows, "state": copy.deepcopy(detector.state_dict())}


def work(say, file):
    torch.set_num_threads(1)
    results = {"own loop alone": own_loop(lambda method: method, slice(6))}
    with joined("cpu", timedelta(seconds=60)) as (group, _):
        folder, alone = file.parent, Group()
        results["own loop"] = own_loop(DistributedDataParallel, group.share.of(6))
        results["methods"] = {case: steps(case, group) for case in METHODS}
        results["training"] = training(group, folder / "two.pt")
        training(group, folder / "two-then-one.pt", stop_after=2)
        if group.first:
            training(alone, folder / "one-then-two.pt", stop_after=2)
        group.collect([])  # the second process waits here for the checkpoint
        results["one then two"] = training(group, folder / "one-then-two.pt")
        results["detection"] = {name: detection(group, name, folder) for name in ("retinanet", "faster_rcnn")}
        if group.first:
            results["methods alone"] = {case: steps(case, alone) for case in METHODS}
            results["released"] = {case: released_terms(case) for case in ("cds_released", "cds_kd_released")}
            results["training alone"] = training(alone, folder / "one.pt")
            results["two then one"] = training(alone, folder / "two-then-one.pt")
            results["detection alone"] = {"retinanet": detection(alone, "retinanet", folder)}
            torch.save(results, file)
