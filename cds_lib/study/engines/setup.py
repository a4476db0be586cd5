"""Build what the training loop needs from a run's spec: the method around its network, the batches, the evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.augment.views import CIFAR
from cds_lib.evaluation.accuracy import evaluate, per_image
from cds_lib.files import replacing
from cds_lib.methods.method import Method
from cds_lib.study.data.stream import StreamedBatches, StreamedEvaluation
from cds_lib.study.engines import build
from cds_lib.study.engines.build import create_method
from cds_lib.study.engines.split import labelled_part, load, streams, training_split
from cds_lib.study.errors import RunError
from cds_lib.study.files import sha256_of, write_text
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.training import checkpoint
from cds_lib.training.distributed import Group

# Smaller for files: a worker decodes a whole batch, and a test set should be spread over all workers.
_EVALUATION_BATCH, _STREAMED_EVALUATION_BATCH = 500, 64
_SUMS = "SHA256SUMS"  # checksums of all kept weights in a folder, in the format of `sha256sum`


@dataclass
class Setup:
    """Everything that the training of a run needs.

    method: around its network, on the CPU. batches: as `fit` takes them, on the device.
    evaluate: measures a backbone on this process's share of the test and validation images, summed over the processes.
    provenance: of the data, see `DataSet.provenance`.
    split: sorted indices into the training set: "train", "val" and, where not all labels are used, "labelled".
    pretrained: names of the method's parameters that come from another run; None if that makes no difference.
    score: returns for each image whether the trained backbone classifies it correctly, (N,) bool, and its
        cross-entropy, (N,) float32. Keys are "test", "unused" (training images neither trained on nor held back) and
        "trained" (those trained on, not augmented). None if images are not in memory or nothing is classified.
    """

    method: Method
    batches: Any
    evaluate: Callable[[nn.Module], dict[str, float]]
    provenance: dict
    split: dict[str, np.ndarray]
    pretrained: set[str] | None = None
    score: Callable[[nn.Module], dict[str, tuple[np.ndarray, np.ndarray]]] | None = None


def prepare(
    spec: RunSpec, store: Store, data_root: Path, device: torch.device, workers: int = 0, group: Group | None = None
) -> Setup:
    """Load the data and build the method of a run.

    Args:
        workers: processes that decode images, if these are too large to be kept in memory.
        group: the processes that train this run; batches and evaluation hold this process's share. None: only this one.

    Raises:
        UsageError: missing or invalid data, unknown names. RunError: damaged weights of a parent.
    """
    group, budget = group or Group(), spec.budget
    if spec.detects:
        return _detection(spec, store, data_root, device, workers, group)
    data = load(spec, data_root)
    classes = len(data.class_names)
    _, weight_seed, order_seed = streams(spec.seed)
    train_index, val_index = training_split(spec, data.train_labels)

    torch.manual_seed(weight_seed)
    method = build_method(spec, classes, store)

    split = {"train": train_index, "val": val_index}
    train_labels = data.train_labels.copy()
    if spec.labelled is not None:
        split["labelled"] = labelled_part(spec, train_labels, train_index)
        if spec.uses_unlabelled:
            train_labels[np.setdiff1d(train_index, split["labelled"])] = -1
        else:
            train_index = split["labelled"]

    labels = torch.from_numpy(train_labels[train_index]).to(device)
    method.prepare(labels)
    views = budget.views
    order = {"batch_size": budget.batch_size, "seed": order_seed, "views": method.views, "share": group.share}
    decoding = {"device": device, "workers": workers}
    if budget.streamed:
        batches = StreamedBatches(list(data.train_images[train_index]), labels, **order, **views, **decoding)
    else:
        images = torch.from_numpy(data.train_images[train_index]).to(device)
        drawn = views | ({"augmentation": (replace(CIFAR[0], cutout=budget.cutout),) * 2} if budget.view1_twice else {})
        batches = Batches(images, labels, **order, **drawn, cutout=budget.cutout)

    def part(name: str, index: Any, where: torch.device = device) -> Callable[[], Any]:
        """Return a function that starts an evaluation: arrays stay on the device `where`, files are read each time."""
        images, labels = (getattr(data, f"{name}_{what}")[index] for what in ("images", "labels"))
        labels = torch.from_numpy(labels).to(where)
        if budget.streamed:
            streamed = StreamedEvaluation(list(images), labels, _STREAMED_EVALUATION_BATCH, **views, **decoding)
            return lambda: streamed
        images = torch.from_numpy(np.ascontiguousarray(images)).to(where)
        return lambda: evaluation_batches(images, labels, _EVALUATION_BATCH, **views) if len(labels) else ()

    share = group.share.of
    parts = {"test": part("test", share(len(data.test_labels)))}
    if len(val_index):
        parts["val"] = part("train", val_index[share(len(val_index))])

    def measure(backbone: nn.Module) -> dict[str, float]:
        if not method.classifies:
            return {}
        return {
            f"{name}_{key}": value
            for name, start in parts.items()
            for key, value in evaluate(backbone, start(), group.sum).items()
        }

    def score(backbone: nn.Module) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        unused = np.setdiff1d(np.arange(len(data.train_images)), np.concatenate([split["train"], split["val"]]))
        chosen = {"test": ("test", slice(None)), "unused": ("train", unused)}
        chosen["trained"] = ("train", split.get("labelled", split["train"]))
        cpu = torch.device("cpu")  # it has room for all of a large set
        return {name: per_image(backbone, part(*which, cpu)(), device) for name, which in chosen.items()}

    pretrained = None
    if spec.finetunes:
        pretrained = {f"backbone.{name}" for name in _without_classifier(method.backbone)}
    scored = method.classifies and not budget.streamed
    return Setup(method, batches, measure, data.provenance, split, pretrained, score if scored else None)


def _detection(spec: RunSpec, store: Store, data_root: Path, device: torch.device, workers: int, group: Group) -> Setup:
    from cds_lib.evaluation.detection import evaluate_detection  # torchmetrics and its dependencies are slow to import
    from cds_lib.study.data.detection_batches import DetectionBatches, DetectionEvaluation

    budget = spec.budget
    data = load(spec, data_root)
    split_seed, weight_seed, order_seed = streams(spec.seed)
    chosen = np.arange(len(data.train))
    if budget.train_size is not None and budget.train_size < len(chosen):
        chosen = np.sort(np.random.default_rng(split_seed).choice(len(chosen), budget.train_size, replace=False))
    torch.manual_seed(weight_seed)
    backbone = build.backbone(spec.parent, 1)
    _load_backbone(backbone, spec.parent, store)
    method = build.detector(spec, backbone, len(data.names))
    decoding = {"batch_size": budget.batch_size, "device": device, "workers": workers}
    batches = DetectionBatches([data.train[i] for i in chosen], seed=order_seed, share=group.share, **decoding)
    val = DetectionEvaluation(data.val[group.share.of(len(data.val))], **decoding)

    def measure(detector: nn.Module) -> dict[str, float]:
        found = evaluate_detection(detector, val, group.collect)
        return {f"test_{key}": value for key, value in found.items()}

    return Setup(method, batches, measure, data.provenance, {"train": chosen})


def build_method(spec: RunSpec, classes: int, store: Store) -> Method:
    """Build the untrained method of a run. The backbone is initialised first, so that it is the same for every method.

    The trained weights of the parent are loaded: as a teacher, or into the run's own network.
    """
    backbone = build.backbone(spec, classes)
    teacher = None
    if spec.teacher:
        with torch.random.fork_rng(devices=[]):  # building the teacher must not shift the random draws for the heads
            teacher = load_trained(spec.teacher, classes, store)
    elif spec.parent:
        _load_backbone(backbone, spec.parent, store)
    return create_method(spec.method, backbone, classes, spec.options, teacher)


def load_trained(spec: RunSpec, classes: int, store: Store) -> Method:
    """Return the method of a finished run with its final weights; RunError if they are damaged. A teacher is not
    loaded, since it is no part of what was learned."""
    method = build.classifier(spec, classes)
    method.load_state_dict(trained_weights(spec, store))
    return method


def trained_weights(spec: RunSpec, store: Store) -> dict[str, torch.Tensor]:
    """Read the weights of a finished run; RunError if the file is damaged or is of another run, or training."""
    path = store.model(spec.id)
    recorded = store.status(spec.id).get("weights")  # none in runs of version 0.1.0
    if path.suffix == ".safetensors":  # written by `keep_weights`
        if f"{sha256_of(path)}  {path.name}\n" not in (path.parent / _SUMS).read_text(encoding="utf-8"):
            raise RunError(
                f"{path} is not the file that {_SUMS} beside it names: bring it back with git, or delete it."
            )
        with safe_open(path, "pt") as file:
            state = {**file.metadata(), "method": safetensors.torch.load_file(path)}
        same = state.get("model") == recorded
    else:
        state = checkpoint.load(path, torch.device("cpu"))
        same = not recorded or sha256_of(path) == recorded
    if not same or state.get("spec") != spec.canonical:
        raise RunError(f"{path} does not hold the weights of run {spec.id}: delete it and run again.")
    return state["method"]


def keep_weights(folder: Path, spec: RunSpec, method: dict[str, torch.Tensor], model: str) -> None:
    """Write RESULTS/weights/<id>.safetensors, to be kept with committed results; its header names the run.

    method: the state of the run's method, by name. model: sha256 of the model.pt that it was read from.
    """
    tensors = {name: value.contiguous().clone() for name, value in method.items()}  # none may share memory
    content = safetensors.torch.save(tensors, {"run": spec.id, "spec": spec.canonical, "model": model})
    with replacing(folder / f"{spec.id}.safetensors") as file:
        file.write(content)
    sums = (f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors")))
    write_text(folder / _SUMS, "".join(sums))


def _load_backbone(backbone: nn.Module, spec: RunSpec, store: Store) -> None:
    """Load the weights of a finished run, except those of the classifier, which belongs to that run's classes."""
    trained = {name.removeprefix("backbone."): value for name, value in trained_weights(spec, store).items()}
    wanted = _without_classifier(backbone)
    backbone.load_state_dict({**backbone.state_dict(), **{name: trained[name] for name in wanted}})


def _without_classifier(backbone: nn.Module) -> list[str]:
    classifier = {id(tensor) for tensor in backbone.get_classifier().state_dict(keep_vars=True).values()}
    return [name for name, value in backbone.state_dict(keep_vars=True).items() if id(value) not in classifier]
