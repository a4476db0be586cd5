"""Execute one run, from its spec to its results: training and files. Every engine calls `execute`."""

import contextlib
import math
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cds_lib.errors import TrainingError, UsageError
from cds_lib.files import replacing
from cds_lib.study.engines import gpus, launch, provenance
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.setup import Setup, prepare
from cds_lib.study.errors import RunError, one_sentence
from cds_lib.study.files import sha256_of, write_json, write_text
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.training import checkpoint
from cds_lib.training.distributed import Group
from cds_lib.training.loop import fit
from cds_lib.training.precision import Precision

provenance.code_version()  # cache it now: the checkout may change while runs are trained

_ALONE = Resources()
_MEASURED = ("test_", "val_", "unseen_", "trained_")  # prefixes of the columns measured on images


def execute(
    spec: RunSpec,
    store: Store,
    data_root: Path,
    resources: Resources = _ALONE,
    on_progress: Callable[[float], None] = lambda epochs: None,
    *,
    device: str | torch.device | None = None,
    group: Group | None = None,
    stop_after: int | None = None,
) -> dict[str, float]:
    """Train the run, or resume it, and return its metrics.

    A finished run with weights is only read. A finished run without weights is trained again; its old records stay
    valid until the new ones are complete. If several processes train the run, each of them calls this with its group,
    and only the first one writes files and returns metrics.

    Args:
        data_root: folder of real data sets; not used by stand-ins.
        resources: if they ask for several processes, these are started here, and all are ended if one fails.
        on_progress: called about once a second with the epochs done so far.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        group: the processes that train the run, including this one.
        stop_after: epochs after which the run is interrupted, without metrics. None trains to the end.

    Raises:
        UsageError: missing or invalid data, unknown names. RunError: the training failed.
    """
    run_dir = store.run_dir(spec.id)
    if store.is_trained(spec.id):
        return store.metrics(spec.id)
    if resources.processes > 1 and group is None:
        return launch.on_several(execute, spec, store, data_root, resources, on_progress)
    if resources.threads:
        torch.set_num_threads(resources.threads)
    # While metrics.json of an earlier training exists, the history that belongs to it must stay.
    history = run_dir / ("history.part.csv" if store.is_done(spec.id) else "history.csv")
    group = group or Group()
    target = torch.device(device or gpus.device())
    # On a GPU, search for the fastest kernels for the given shapes, unless shapes change with every batch.
    torch.backends.cudnn.benchmark = target.type == "cuda" and not spec.detects

    def write_history(rows: list[dict[str, float]]) -> None:
        if group.first:
            write_text(history, pd.DataFrame(rows).to_csv(index=False))

    with _recorded(spec, store) if group.first else contextlib.nullcontext():
        setup = prepare(spec, store, data_root, target, resources.workers, group)
        if group.first:
            _record_setup(spec, store, setup, target, group)
        rows = fit(
            setup.method,
            setup.batches,
            setup.evaluate,
            spec.budget,
            device=target,
            checkpoint_path=store.checkpoint(spec.id),
            on_epoch=write_history,
            on_progress=on_progress,
            compile_method=resources.compile_method,
            on_compiled=lambda how: store.write_status(spec.id, compiled=how),
            pretrained=setup.pretrained,
            group=group,
            spec=spec.canonical,
            stop_after=stop_after,
        )
        if not group.first:
            return {}
        if len(rows) < spec.budget.epochs:
            store.write_status(spec.id, state="interrupted", finished=provenance.now())
            return {}
        weights, correct = run_dir / ".model.pt.part", run_dir / ".correct.npz.part"
        if setup.score:
            rows[-1] |= _write_scores(correct, setup.score(setup.method.backbone))
            write_history(rows)
        metrics = _metrics(rows, target)
        checkpoint.save(weights, {"method": setup.method.state_dict(), "spec": spec.canonical})
        recorded = sha256_of(weights)
        # Delete the metrics of an earlier training before its files are replaced. If the process is killed from here
        # on, the run resumes at its last epoch, and files of two trainings never mix.
        (run_dir / "metrics.json").unlink(missing_ok=True)
        for stale in run_dir.glob("analysis/*.json"):  # of other weights
            stale.unlink()
        os.replace(weights, run_dir / "model.pt")
        if setup.score:
            os.replace(correct, run_dir / "correct.npz")
        store.write_status(spec.id, state="done", finished=provenance.now(), weights=recorded)
        os.replace(history, run_dir / "history.csv")
        write_json(run_dir / "metrics.json", metrics)  # last: from here on the run is finished
        for leftover in (store.checkpoint(spec.id), run_dir / "history.part.csv"):
            leftover.unlink(missing_ok=True)
    return metrics


@contextlib.contextmanager
def _recorded(spec: RunSpec, store: Store) -> Iterator[None]:
    """Lock the run's folder, delete what a killed process left there, keep status.json up to date, and turn an error of
    the training into one sentence."""
    run_dir = store.run_dir(spec.id)
    if (run_dir / "spec.json").exists():
        store.spec(spec.id)  # RunError if the folder was renamed: its checkpoint is another run's
    with store.lock_run(spec.id):
        try:
            rounds_by = {"instructions": provenance.instructions(), "versions": provenance.versions()}
            store.write_status(
                spec.id,
                state="running",
                error=None,
                started=provenance.now(),
                finished=None,
                machine=provenance.machine(),
                **rounds_by,
                earlier=_earlier(spec, store, rounds_by),
                code=provenance.code_version(),
            )
            for leftover in run_dir.glob(".*.part"):  # of a process that was killed while it wrote
                leftover.unlink()
            write_json(run_dir / "spec.json", spec.to_dict())
            yield
        except BaseException as error:
            stopped = not isinstance(error, Exception)  # by Ctrl-C, or by Slurm
            outcome = {"state": "interrupted"} if stopped else {"state": "failed", "error": one_sentence(error)}
            with contextlib.suppress(OSError):  # a full disk must not hide the failure itself
                store.write_status(spec.id, **outcome, finished=provenance.now())
            if stopped or isinstance(error, UsageError | TrainingError):
                raise
            raise RunError(outcome["error"]) from error


def _earlier(spec: RunSpec, store: Store, rounds_by: dict[str, dict]) -> list[dict] | None:
    """Return the other kernels and versions that a resumed run was computed with before; None if there were none."""
    if not store.checkpoint(spec.id).exists():
        return None
    status = store.status(spec.id)
    before = {name: status.get(name) for name in rounds_by}
    return [*status.get("earlier", []), *([before] if before != rounds_by else [])] or None


def _metrics(rows: list[dict[str, float]], device: torch.device) -> dict[str, float]:
    """Return the results: the values of the last epoch, and the best test epoch, which the released code reports.

    What is measured on images (accuracies or AP in percent, losses) appears as `<name>_last`; pre-training has none.
    RunError: a value is not finite.
    """
    last = rows[-1]
    metrics = {f"{name}_last": value for name, value in last.items() if name.startswith(_MEASURED)}
    for headline in ("test_top1", "test_ap"):
        if headline in last:
            best = max((row for row in rows if headline in row), key=lambda row: row[headline])
            metrics |= {f"{headline}_best": best[headline], "best_epoch": best["epoch"]}
    metrics |= {
        "train_loss_last": last["train_loss"],
        "epochs": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "images_per_second": float(np.median([row["images_per_second"] for row in rows])),
        "peak_memory_mib": _peak_memory_mib(device),
    }
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RunError(f"The run ended with {name} = {value}: it diverged; lower the learning rate.")
    return metrics


def _write_scores(path: Path, scores: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Write which images are classified correctly, 8 to a byte (`Store.correct`).

    Returns columns for the last epoch's row: top-1 in percent and mean cross-entropy of "unseen" images (test and
    unused ones together) and of "trained" ones.
    """
    with replacing(path) as file:
        np.savez_compressed(file, **{name: np.packbits(scores[name][0]) for name in ("test", "unused")})
    unseen = tuple(np.concatenate(parts) for parts in zip(scores["test"], scores["unused"], strict=True))
    found = {}
    for name, (right, losses) in {"unseen": unseen, "trained": scores["trained"]}.items():
        found |= {f"{name}_top1": 100 * float(right.mean()), f"{name}_loss": float(losses.mean(dtype=float))}
    return found


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _record_setup(spec: RunSpec, store: Store, setup: Setup, device: torch.device, group: Group) -> None:
    """Record where the run is trained and on which images. RunError if it would resume a checkpoint of other images."""
    begun_on = store.status(spec.id).get("data")
    if begun_on and store.checkpoint(spec.id).exists() and begun_on["sha256"] != setup.provenance["sha256"]:
        raise RunError(
            f"Run {spec.id} was begun on other images of {spec.dataset}: delete {store.run_dir(spec.id)} to train it "
            "from the start, or bring those back."
        )
    where = {"device": device.type, "threads": torch.get_num_threads(), "processes": group.world}
    if device.type == "cuda":
        where["device"] = torch.cuda.get_device_name(device)
        where["kernels"] = {
            "cudnn": str(torch.backends.cudnn.version()),
            "searched": torch.backends.cudnn.benchmark,
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
            "tf32_products": torch.backends.cuda.matmul.allow_tf32,
            "autocast": str(Precision(spec.budget.precision, device).dtype).removeprefix("torch."),
        }
    store.write_status(spec.id, data=setup.provenance, **where)
    with replacing(store.run_dir(spec.id) / "split.npz") as file:
        np.savez_compressed(file, **{name: index.astype(np.int32) for name, index in setup.split.items()})
