"""Run two steps and an evaluation of every kind of run, and all analyses, on the CPU and on a stand-in for a GPU.

`test_rehearsal.py` runs this in its own process. The output file holds, for each kind of run, the results of both
devices and the operations between two steps that would have made the CPU wait for the GPU. For methods that declare
that they compile, it also lists the tensors that were replaced after the first step.
"""

import functools
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import standin_gpu
from cds_lib.evaluation import detection
from cds_lib.study import analyses
from cds_lib.study.data import sets, standin
from cds_lib.study.engines import analyse, build, setup
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from cds_lib.training import checkpoint, loop

STEPS = 2
NOWHERE = Path("nowhere")


def kinds():
    """Return smaller smoke runs by name that together cover every method, detector, augmentation and setting."""
    runs = [spec for table in TABLES.values() for run in table.runs("smoke", None) for spec in run.lineage]
    found, seen = {}, set()
    for spec in sorted(runs, key=lambda spec: spec.budget.image_size):
        parts = {(spec.method, spec.model if spec.detects else None), spec.budget.augmentation, spec.setting[:4]}
        if not parts <= seen:
            found[f"{spec.method} {spec.model} {spec.budget.augmentation} {spec.setting}"] = small(spec)
            seen |= parts
    return found


def small(spec):
    """Shrink network and batch; waits depend on neither. With resizing, a small batch would amplify rounding."""
    if spec.detects:
        return spec
    budget = spec.budget if spec.budget.augmentation else replace(spec.budget, batch_size=10)
    return replace(spec, model="resnet18", budget=budget, parent=spec.parent and small(spec.parent))


class Watched:
    """The first batches of an epoch; records the waits of the CPU before each next batch, and the method's tensors."""

    def __init__(self, batches, method):
        self.batches, self.method, self.waits, self.tensors = batches, method, [], []

    def __len__(self):
        return min(STEPS, len(self.batches))

    def epoch(self, epoch):
        for _, batch in zip(range(len(self)), self.batches.epoch(epoch), strict=False):
            yield batch
            self.waits.append(standin_gpu.WAITS.copy())
            self.tensors.append(dict([*self.method.named_parameters(), *self.method.named_buffers()]))


def train(spec, device):
    torch.manual_seed(0)
    prepared = setup.prepare(spec, Store(NOWHERE), NOWHERE, device)
    watched = Watched(prepared.batches, prepared.method)
    standin_gpu.WAITS.clear()
    rows = loop.fit(
        prepared.method,
        watched,
        prepared.evaluate,
        replace(spec.budget, epochs=1, precision="fp32"),
        device=device,
        checkpoint_path=NOWHERE / "checkpoint.pt",
        on_epoch=lambda rows: None,
        pretrained=prepared.pretrained,
    )
    # Leave out the first step, which starts the epoch and initialises operations.
    steady = watched.waits[-1] - watched.waits[0]
    timings = ("seconds", "images_per_second")
    numbers = {key: value for key, value in rows[0].items() if key not in timings}
    first, last = watched.tensors[0], watched.tensors[-1]
    replaced = [name for name in first if first[name] is not last[name] and prepared.method.compiles]
    return numbers, dict(steady), replaced


def analysed(device):
    """Compute every analysis of the study for an untrained CDS network, with its baseline."""
    spec, values = settings.supervised("smoke", "cifar100", "resnet18", "cds", 0), {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for run in (spec, analyses.baseline_of(spec)):
            torch.manual_seed(0)
            weights = build.classifier(run, 100).state_dict()
            store.run_dir(run.id).mkdir(parents=True)
            torch.save({"method": weights, "spec": run.canonical}, store.model(run.id))
        run = analyse.FinishedRun(spec, store, NOWHERE, device)
        for name in analyses.ANALYSES:
            values |= analyse.compute(run, name)["values"]
    return values


def work(say, file):
    torch.set_num_threads(1)
    sets.load = functools.cache(sets.load)
    loop._SECONDS_BETWEEN_CHECKS = math.inf  # the check, once a second, waits
    checkpoint.save = lambda path, state: None
    setup.load_trained = lambda spec, classes, store: build.classifier(spec, classes)  # the parents are untrained
    setup._load_backbone = lambda backbone, spec, store: None
    # The stand-in does not know inference mode.
    setup.evaluate = torch.no_grad()(setup.evaluate.__wrapped__)
    detection.evaluate_detection = torch.no_grad()(detection.evaluate_detection.__wrapped__)
    analyse.extract = torch.no_grad()(analyse.extract.__wrapped__)
    gpu = standin_gpu.register()
    results = {"analyses": {"cpu": analysed(torch.device("cpu")), "gpu": analysed(gpu), "waits": {}}}
    sets.load.cache_clear()
    standin.TEST = 100  # only analyses need several images per class
    for name, spec in kinds().items():
        try:
            (on_cpu, *_), (on_gpu, waits, replaced) = train(spec, torch.device("cpu")), train(spec, gpu)
            results[name] = {"cpu": on_cpu, "gpu": on_gpu, "waits": waits, "replaced": replaced}
        except RuntimeError as error:
            results[name] = {"error": str(error)}
    file.write_text(json.dumps(results, indent=1))
