"""The store: one folder per run, named by the run's id, under RESULTS/runs.

    spec.json      what the run is
    status.json    running | done | failed | interrupted, when, where, with which versions, data and code
    history.csv    one row per epoch
    metrics.json   the results; written last, so a run is finished exactly when this file exists
    split.npz      indices of the training images that are trained on, held back for validation and, where not all
                   labels are used, used with their labels (absent in detection runs of earlier versions)
    correct.npz    which images the network classifies correctly: test images, and training images that were neither
                   trained on nor held back (absent in runs of earlier versions)
    checkpoint.pt  only during training; afterwards model.pt, the final weights

A file is accepted only if it belongs to the run. The spec must have the id of its folder, and the metrics must be those
of the history's last row. Weights, checkpoints and analyses (`analyses.py`) record their run.

Every file is written under a temporary name and renamed, so none is ever seen half-written. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cds_lib.errors import UsageError
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import RunError, cure
from cds_lib.study.files import is_locked, locked, once, read_json, write_json
from cds_lib.study.measures import is_percentage
from cds_lib.study.plan import protocols
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.text import listed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

VERSION = 1
_PAUSE = 0.5  # seconds between two checks whether another process still holds the store


def results_dir(profile: str, argument: str = "") -> Path:
    """Return `argument` with ~ expanded, else results/<profile> of the checkout. UsageError: unknown profile."""
    protocols.check_profile(profile)
    return Path(os.path.expanduser(argument)) if argument else CHECKOUT / "results" / profile


class Store:
    """The runs of one results folder. Reading never creates anything; `open_for_writing` checks and prepares it."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    # -- paths -------------------------------------------------------------------------------------------------------
    def run_dir(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    def checkpoint(self, run_id: str) -> Path:
        return self.run_dir(run_id) / "checkpoint.pt"

    def model(self, run_id: str) -> Path:
        """Return the path of the finished run's weights: its model.pt, else those kept with committed results."""
        own, kept = self.run_dir(run_id) / "model.pt", self.root / "weights" / f"{run_id}.safetensors"
        return kept if kept.exists() and not own.exists() else own

    # -- reading -----------------------------------------------------------------------------------------------------
    def ids(self) -> list[str]:
        """Ids of all run folders, finished or not."""
        return sorted(p.parent.name for p in self.root.glob("runs/*/spec.json"))

    def is_done(self, run_id: str) -> bool:
        """Whether the run is finished, with or without its weights."""
        return (self.run_dir(run_id) / "metrics.json").exists()

    def is_trained(self, run_id: str) -> bool:
        """Whether the run is finished and its weights exist; most committed runs have none."""
        return self.is_done(run_id) and self.model(run_id).exists()

    def spec(self, run_id: str) -> RunSpec:
        """Read the run's spec; RunError if its id is not the name of the folder."""
        try:
            spec = _spec(self.run_dir(run_id) / "spec.json")
        except UsageError as error:
            folder = self.run_dir(run_id)
            raise RunError(
                f"{folder / 'spec.json'}: {_phrase(error)}: update the code, or delete the folder {folder} and run "
                "again."
            ) from error
        except (OSError, ValueError) as error:
            raise self.damaged(run_id, "spec.json", error) from error
        if spec.id != run_id:
            raise self.damaged(run_id, "spec.json", f"it belongs to run {spec.id}: the folder was renamed or copied")
        return spec

    def metrics(self, run_id: str) -> dict[str, float]:
        """Read the finished run's results: accuracies in percent, costs in seconds and MiB.

        RunError if they are damaged, or differ from the last epoch of the history. They may then belong to another run,
        and must never be taken for this run's.
        """
        metrics = self.json(run_id, "metrics.json")
        if fault := fault_of_numbers(metrics):
            raise self.damaged(run_id, "metrics.json", fault)
        rows = self.epochs(run_id)
        for name, value in metrics.items() if rows else ():
            if name.endswith("_last") and rows[-1].get(name.removesuffix("_last")) != value:
                raise self.damaged(run_id, "metrics.json", f"{name!r} differs from the last row of its history.csv")
        if rows and metrics.get("epochs", len(rows)) != len(rows):
            raise self.damaged(run_id, "history.csv", f"it has {len(rows)} rows, not one per epoch")
        return metrics

    def metric(self, run_id: str, name: str) -> float:
        """Read one result of the finished run; RunError if it is missing."""
        metrics = self.metrics(run_id)
        if name not in metrics:
            raise self.damaged(run_id, "metrics.json", f"it has no {name!r}")
        return metrics[name]

    def status(self, run_id: str) -> dict[str, Any]:
        """Read the run's status without null fields; {} if it never started. The state is "running" only if a process
        holds the run's lock now."""
        path = self.run_dir(run_id) / "status.json"
        if not path.exists():
            return {}
        status = {name: value for name, value in self.json(run_id, "status.json", path).items() if value is not None}
        if "state" not in status:
            raise self.damaged(run_id, "status.json", "it has no state", path)
        if status["state"] == "running" or (status["state"] == "done" and not self.is_done(run_id)):
            status["state"] = "running" if is_locked(self.run_dir(run_id) / ".lock") else "interrupted"
        return status

    def history(self, run_id: str) -> pd.DataFrame:
        """Return `epochs` as a frame, empty before the first epoch ends. Checks the metrics of a finished run."""
        import pandas as pd

        if self.is_done(run_id):
            self.metrics(run_id)
        frame = pd.DataFrame(self.epochs(run_id))
        return frame.astype({"epoch": int}) if len(frame) else frame

    def epochs(self, run_id: str) -> Sequence[dict[str, float]]:
        """Read the history: one dict per epoch, NaN where nothing was measured, none before the first epoch ends. An
        infinite loss means that training diverged. RunError if the history is truncated, garbled or not of this run."""
        path = self.run_dir(run_id) / "history.csv"
        if not path.exists():
            return []
        delete = None if self.is_done(run_id) else path
        try:
            rows = _history(path)
        except (OSError, ValueError, LookupError, csv.Error) as error:
            raise self.damaged(run_id, "history.csv", error, delete) from error
        if path.with_name("spec.json").exists() and len(rows) > self.spec(run_id).budget.epochs:
            raise self.damaged(run_id, "history.csv", f"it has {len(rows)} rows, more than the run has epochs", delete)
        return rows

    def correct(self, run_id: str) -> dict[str, np.ndarray] | None:
        """Read which images the finished run's network classifies correctly: "test" (N,) bool in the order of the test
        set, "unused" (M,) bool for the training images "unused_index" (M,) int. None for a run of an earlier version.
        RunError if the file is damaged or of another run."""
        import numpy as np

        path = self.run_dir(run_id) / "correct.npz"
        if not path.exists():
            return None
        try:
            data = self.status(run_id)["data"]
            with np.load(path) as bits, np.load(path.with_name("split.npz")) as split:
                unused = np.setdiff1d(np.arange(data["train"]), np.concatenate([split["train"], split["val"]]))
                counts = {"test": data["test"], "unused": len(unused)}
                right = {name: np.unpackbits(bits[name], count=n).astype(bool) for name, n in counts.items()}
            if 100 * float(np.concatenate([*right.values()]).mean()) != self.metric(run_id, "unseen_top1_last"):
                raise ValueError("it contradicts the metrics")
            return {**right, "unused_index": unused}
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self.damaged(run_id, "correct.npz", error) from error

    def json(self, run_id: str, name: str, delete: Path | None = None) -> dict[str, Any]:
        """Read a JSON file of the run. RunError if that fails. Its message tells the user to delete that file or, if
        `delete` is None, the run's folder."""
        try:
            return read_json(self.run_dir(run_id) / name)
        except (OSError, ValueError) as error:
            raise self.damaged(run_id, name, error, delete) from error

    def damaged(self, run_id: str, name: str, why: object, delete: Path | None = None) -> RunError:
        """Return the error of an unusable file. It says to delete the file or, without `delete`, the run's folder."""
        folder = self.run_dir(run_id)
        what = f"the folder {folder}" if delete is None else "it"
        return RunError(f"{folder / name} cannot be read ({_phrase(why)}): delete {what} and run again.")

    # -- writing -----------------------------------------------------------------------------------------------------
    def open_for_writing(self) -> None:
        """Create the folder. UsageError if it is not writable, holds pages that are not this study's, or was written by
        a newer version."""
        try:
            str(self.root).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The name of the results folder {self.root} is not valid UTF-8, which notebooks need: choose "
                "another --results."
            ) from error
        marker = self.root / "store.json"
        foreign = [name for name in ("notebooks", "index.html") if (self.root / name).exists()]
        if foreign and not marker.exists():
            raise UsageError(
                f"{self.root} is not a results folder and has {listed(foreign)}, which would be written over: choose "
                "another --results."
            )
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            if marker.exists():
                self._check_version(marker)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            if not marker.exists():
                write_json(marker, {"version": VERSION})
        except OSError as error:
            raise UsageError(
                f"The results folder {self.root} cannot be used ({error}): {cure(error)} or choose another --results."
            ) from error

    def _check_version(self, marker: Path) -> None:
        try:
            found = read_json(marker)["version"]
            newer = found > VERSION
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"The results folder {self.root} cannot be used ({marker} is damaged: {_phrase(error)}): "
                "delete that file if the folder is one of this study, or choose another --results."
            ) from error
        if newer:
            raise UsageError(
                f"{self.root} was written by a newer version of the study (store version {found}, this one "
                f"knows {VERSION}): update the code or choose another --results folder."
            )

    def write_status(self, run_id: str, **changes: Any) -> None:
        """Merge `changes` into status.json; an unreadable file is replaced."""
        old: dict[str, Any] = {}
        with contextlib.suppress(RunError):
            old = self.json(run_id, "status.json")
        write_json(self.run_dir(run_id) / "status.json", {**old, **changes})

    @contextlib.contextmanager
    def lock_run(self, run_id: str) -> Iterator[None]:
        """Lock the run for this process; RunError if another process trains it."""
        self.run_dir(run_id).mkdir(parents=True, exist_ok=True)
        with locked(self.run_dir(run_id) / ".lock") as owner:
            if owner is not None:
                raise RunError(f"Run {run_id} is being trained by {owner}: wait for it or choose another --results.")
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the whole store for training; while another process holds it, say so and wait."""
        told = False
        while True:
            with locked(self.root / ".lock") as owner:
                if owner is None:
                    yield
                    return
            if not told:
                print(f"{self.root} is in use by {owner}: waiting until it has finished.", flush=True)
                told = True
            time.sleep(_PAUSE)


_spec = once(lambda path: RunSpec.from_dict(read_json(path)))


@once
def _history(path: Path) -> list[dict[str, float]]:
    text = path.read_bytes().decode()
    table = list(csv.reader(text.splitlines(), strict=True))
    rows = [{name: float(cell or "nan") for name, cell in zip(table[0], cells, strict=True)} for cells in table[1:]]
    if not text.endswith("\n") or [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("it is not one complete row of numbers per epoch")
    return rows


def fault_of_numbers(values: Mapping[str, Any]) -> str:
    """Say what is wrong with measured numbers, "" if nothing is: each must be finite, and percentages 0 to 100."""
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"{name!r} is not a finite number"
        if is_percentage(name) and not 0 <= value <= 100:
            return f"{name!r} is {value}, but percentages are 0 to 100"
    return ""


def _phrase(why: object) -> str:
    """Shorten an error, whose text may quote a damaged file, to one short line."""
    return " ".join((str(why) or type(why).__name__).split())[:200].rstrip(".")
