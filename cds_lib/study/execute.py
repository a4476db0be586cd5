"""One run from its spec to its results: data, method, training, files. The same on every engine."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from cds_lib.data import sets, splits
from cds_lib.data.batches import Batches, evaluation_batches
from cds_lib.errors import RunError, UsageError
from cds_lib.evaluation.accuracy import evaluate
from cds_lib.files import replacing, write_json, write_text
from cds_lib.methods import create_method
from cds_lib.models import create_backbone
from cds_lib.study import provenance
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.training import checkpoint
from cds_lib.training.loop import fit

_EVALUATION_BATCH = 500

# Independent random streams of a run; the split, the order, view 1 and the backbone's weights depend on the seed alone,
# so that runs of the same seed are paired whatever their method is.
_SPLIT, _WEIGHTS, _ORDER = range(3)


def execute(
    spec: RunSpec,
    store: Store,
    data_root: Path,
    *,
    device: str | None = None,
    compile_method: bool = False,
    on_progress: Callable[[float], None] = lambda epochs: None,
) -> dict[str, float]:
    """Train the run, or finish it if it was interrupted, and return its metrics.

    A finished run whose weights are there is only read.

    Args:
        data_root: where real data sets are; not used by stand-ins.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        on_progress: called about once a second with the epochs done so far.

    Raises:
        UsageError: data missing or not as it should be, unknown names. RunError: the training failed.
    """
    run_dir = store.run_dir(spec.id)
    if store.is_done(spec.id) and store.model(spec.id).exists():
        return store.metrics(spec.id)
    with store.lock_run(spec.id), _recorded(spec, store):
        for leftover in run_dir.glob(".*.part"):  # of a process that was killed while it wrote
            leftover.unlink()
        write_json(run_dir / "spec.json", spec.to_dict())
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        setup = _prepare(spec, store, data_root, target)
        store.write_status(spec.id, data=setup.provenance, device=_device_name(target), threads=torch.get_num_threads())
        _write_split(run_dir / "split.npz", setup.split)
        rows = fit(
            setup.method,
            setup.batches,
            setup.evaluate,
            spec.budget,
            device=target,
            checkpoint_path=store.checkpoint(spec.id),
            on_epoch=lambda rows: write_text(run_dir / "history.csv", pd.DataFrame(rows).to_csv(index=False)),
            on_progress=on_progress,
            compile_method=compile_method,
        )
        checkpoint.save(store.model(spec.id), {"method": setup.method.state_dict(), "spec": spec.canonical})
        metrics = _metrics(rows, target)
        write_json(run_dir / "metrics.json", metrics)
        store.checkpoint(spec.id).unlink(missing_ok=True)
    return metrics


@dataclass
class _Setup:
    method: nn.Module
    batches: Batches
    evaluate: Callable[[nn.Module], dict[str, float]]
    provenance: dict
    split: dict[str, np.ndarray]


def _prepare(spec: RunSpec, store: Store, data_root: Path, device: torch.device) -> _Setup:
    budget = spec.budget
    data = sets.load(spec.dataset, data_root, budget.source, budget.image_size)
    classes = len(data.class_names)
    split_seed, weight_seed, order_seed = (
        int(np.random.SeedSequence([spec.seed, stream]).generate_state(1)[0]) for stream in (_SPLIT, _WEIGHTS, _ORDER)
    )
    train_index, val_index = splits.train_val_split(data.train_labels, budget.val_size, split_seed)
    if budget.train_size is not None:
        chosen = splits.balanced_subset(data.train_labels[train_index], budget.train_size, split_seed)
        train_index = train_index[chosen]

    torch.manual_seed(weight_seed)
    method = _build(spec, classes, store)

    split = {"train": train_index, "val": val_index}
    train_labels = data.train_labels.copy()
    if spec.labelled is not None:
        count = round(spec.labelled * len(train_index))
        labelled = train_index[splits.balanced_subset(train_labels[train_index], count, split_seed)]
        split["labelled"] = labelled
        if getattr(method, "uses_unlabelled", False):
            train_labels[np.setdiff1d(train_index, labelled)] = -1
        else:
            train_index = labelled

    def on_device(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)

    images, labels = on_device(data.train_images[train_index], train_labels[train_index])
    if hasattr(method, "prepare"):
        method.prepare(labels)
    batches = Batches(
        images,
        labels,
        batch_size=budget.batch_size,
        seed=order_seed,
        views=method.views,
        cutout=budget.cutout,
    )
    test = on_device(data.test_images, data.test_labels)
    val = on_device(data.train_images[val_index], data.train_labels[val_index])

    def measure(backbone: nn.Module) -> dict[str, float]:
        parts = {"test": test, "val": val} if len(val_index) else {"test": test}
        return {
            f"{part}_{name}": value
            for part, tensors in parts.items()
            for name, value in evaluate(backbone, evaluation_batches(*tensors, _EVALUATION_BATCH)).items()
        }

    return _Setup(method, batches, measure, data.provenance, split)


def _build(spec: RunSpec, classes: int, store: Store) -> nn.Module:
    """The untrained method of a run; its backbone is initialised first, so that it is the same whatever the method."""
    backbone = create_backbone(spec.model, classes, stem=spec.budget.stem, width=spec.budget.width)
    with torch.random.fork_rng(devices=[]):  # building the teacher must not shift what is drawn for the heads
        teacher = _load_trained(spec.parent, classes, store) if spec.parent else None
    return create_method(spec.method, backbone, classes, spec.options, teacher)


def _load_trained(spec: RunSpec, classes: int, store: Store) -> nn.Module:
    """The method of a finished run with its final weights."""
    method = _build(spec, classes, store)
    method.load_state_dict(checkpoint.load(store.model(spec.id), torch.device("cpu"))["method"])
    return method


@contextlib.contextmanager
def _recorded(spec: RunSpec, store: Store) -> Iterator[None]:
    """Keep status.json true, and turn what a training can run into one sentence."""
    store.write_status(
        spec.id,
        state="running",
        error=None,
        started=_now(),
        finished=None,
        machine=provenance.machine(),
        versions=provenance.versions(),
        code=provenance.code_version(),
    )
    try:
        yield
    except BaseException as error:
        failure = _one_sentence(error)
        with contextlib.suppress(OSError):  # a full disk must not hide the failure itself
            state = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
            store.write_status(spec.id, state=state, error=str(failure), finished=_now())
        if failure is error:
            raise
        raise failure from error
    store.write_status(spec.id, state="done", finished=_now())


def _one_sentence(error: BaseException) -> BaseException:
    if isinstance(error, UsageError | RunError):
        return error
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return RunError("The GPU is out of memory: give it fewer jobs (--jobs) or choose a GPU with more memory.")
    if isinstance(error, MemoryError):
        return RunError("This machine is out of memory: run fewer jobs at a time (--jobs).")
    if isinstance(error, OSError):
        return RunError(f"A file could not be written or read ({error}): free space or fix the folder, then run again.")
    if isinstance(error, Exception):
        first = (str(error).strip() or "no message").splitlines()[0]
        return RunError(f"{type(error).__name__}: {first} (the traceback is in the run's log.txt).")
    return error


def _metrics(rows: list[dict[str, float]], device: torch.device) -> dict[str, float]:
    """Last-epoch values are the results; the best test epoch is recorded as the released code reports it."""
    last = rows[-1]
    best = max((row for row in rows if "test_top1" in row), key=lambda row: row["test_top1"])
    metrics = {
        "test_top1_last": last["test_top1"],
        "test_top1_best": best["test_top1"],
        "best_epoch": best["epoch"],
        "test_loss_last": last["test_loss"],
        "train_loss_last": last["train_loss"],
        "epochs": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "images_per_second": float(np.median([row["images_per_second"] for row in rows])),
        "peak_memory_mib": _peak_memory_mib(device),
    }
    if "val_top1" in last:
        metrics["val_top1_last"] = last["val_top1"]
    return metrics


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _write_split(path: Path, split: dict[str, np.ndarray]) -> None:
    """Which images of the training set were trained on, held back, and (where not all were) used with their labels."""
    with replacing(path) as file:
        np.savez_compressed(file, **{name: index.astype(np.int32) for name, index in split.items()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
