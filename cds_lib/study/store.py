"""The store: one folder per run, named by the run's id, under RESULTS/runs.

    spec.json      what the run is
    status.json    running | done | failed | interrupted, when, where, with which versions, data and code
    history.csv    one row an epoch
    metrics.json   the results; it is written last, so a run is finished exactly when it is there
    split.npz      which images of the training set are trained on, held back for validation, and used with their
                   labels where not all are (not there in detection runs of earlier versions)
    correct.npz    which images its network classifies rightly: of the test set, and of the training images that it
                   neither trained on nor held back (not there in runs of earlier versions)
    checkpoint.pt  while it trains; model.pt, the final weights, afterwards

Every file is written under a temporary name and renamed, so none is ever seen half-written. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cds_lib.errors import RunError, UsageError, cure
from cds_lib.files import is_locked, locked, write_json
from cds_lib.study.spec import RunSpec
from cds_lib.text import listed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

VERSION = 1
_PAUSE = 0.5  # seconds between two looks at whether another process still holds the store

# What other parts rely on where they read a status: the type of each value that is there and not null.
_STATUS = dict.fromkeys(("state", "error", "started", "finished", "machine", "device", "code"), str)
_STATUS |= dict.fromkeys(("versions", "instructions", "data"), dict)
_DATA = {"kind": str, "train": int, "test": int, "sha256": str, "note": str}


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
        return self.run_dir(run_id) / "model.pt"

    # -- reading -----------------------------------------------------------------------------------------------------
    def ids(self) -> list[str]:
        """Ids of all run folders, finished or not."""
        return sorted(p.parent.name for p in self.root.glob("runs/*/spec.json"))

    def is_done(self, run_id: str) -> bool:
        """Whether the run is finished, with or without its weights."""
        return (self.run_dir(run_id) / "metrics.json").exists()

    def is_trained(self, run_id: str) -> bool:
        """Whether the run is finished and its weights are there: committed results have none."""
        return self.is_done(run_id) and self.model(run_id).exists()

    def spec(self, run_id: str) -> RunSpec:
        """What the run is; RunError if its spec is not the one that the folder is named by."""
        try:
            spec = RunSpec.from_dict(self._json(run_id, "spec.json"))
        except UsageError as error:
            folder = self.run_dir(run_id)
            raise RunError(
                f"{folder / 'spec.json'}: {_phrase(error)}: update the code, or delete the folder {folder} and run "
                "again."
            ) from error
        if spec.id != run_id:
            raise self._damaged(run_id, "spec.json", f"it is that of run {spec.id}: the folder was renamed or copied")
        return spec

    def metrics(self, run_id: str) -> dict[str, float]:
        """The finished run's results; percent for accuracies, seconds and MiB for costs. RunError if damaged."""
        metrics = self._json(run_id, "metrics.json")
        for name, value in metrics.items():
            if type(value) not in (int, float) or not -math.inf < value < math.inf:
                raise self._damaged(run_id, "metrics.json", f"{name!r} is no finite number")
        if (self.run_dir(run_id) / "spec.json").exists():
            self.spec(run_id)  # the numbers of another run must never be taken for this one's
        return metrics

    def metric(self, run_id: str, name: str) -> float:
        """One result of the finished run; RunError if it is not there."""
        metrics = self.metrics(run_id)
        if name not in metrics:
            raise self._damaged(run_id, "metrics.json", f"it has no {name!r}")
        return metrics[name]

    def status(self, run_id: str) -> dict[str, Any]:
        """The run's status, {} if it never started. "running" only if a process holds its lock now."""
        path = self.run_dir(run_id) / "status.json"
        if not path.exists():
            return {}
        status = self._json(run_id, "status.json", path)
        if not _is_status(status):
            raise self._damaged(run_id, "status.json", "it lacks the state, or a value has another type", path)
        if status["state"] == "running" or (status["state"] == "done" and not self.is_done(run_id)):
            status["state"] = "running" if is_locked(self.run_dir(run_id) / ".lock") else "interrupted"
        return status

    def history(self, run_id: str) -> pd.DataFrame:
        """One row an epoch; an empty frame before the first epoch is complete. RunError if it is cut off or garbled."""
        import pandas as pd

        path = self.run_dir(run_id) / "history.csv"
        if not path.exists():
            return pd.DataFrame()
        delete = None if self.is_done(run_id) else path
        try:
            text = path.read_text(encoding="utf-8")
            frame = pd.read_csv(io.StringIO(text))
        except (OSError, ValueError) as error:
            raise self._damaged(run_id, "history.csv", error, delete) from error
        rows = len(frame)
        whole = text.endswith("\n") and all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
        if not whole or "epoch" not in frame or frame["epoch"].tolist() != list(range(1, rows + 1)):
            raise self._damaged(run_id, "history.csv", "it is not one whole row of numbers an epoch", delete)
        if self.is_done(run_id) and self.metrics(run_id).get("epochs", rows) != rows:
            raise self._damaged(run_id, "history.csv", f"it has {rows} rows, fewer or more than the run has epochs")
        return frame

    def correct(self, run_id: str) -> dict[str, np.ndarray] | None:
        """Which images the finished run's network classifies rightly: "test" (N,) bool in the order of the test set,
        "unused" (M,) bool of the training images `unused_index` (M,) int; None of a run of an earlier version."""
        import numpy as np

        path = self.run_dir(run_id) / "correct.npz"
        if not path.exists():
            return None
        try:
            data = self.status(run_id)["data"]
            with np.load(path) as bits, np.load(self.run_dir(run_id) / "split.npz") as split:
                unused = np.setdiff1d(np.arange(data["train"]), np.concatenate([split["train"], split["val"]]))
                counts = {"test": data["test"], "unused": len(unused)}
                right = {name: np.unpackbits(bits[name], count=n).astype(bool) for name, n in counts.items()}
            return {**right, "unused_index": unused}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(run_id, "correct.npz", error) from error

    def _json(self, run_id: str, name: str, delete: Path | None = None) -> dict[str, Any]:
        try:
            content = json.loads((self.run_dir(run_id) / name).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(run_id, name, error, delete) from error
        if not isinstance(content, dict):
            raise self._damaged(run_id, name, "it holds no JSON object", delete)
        return content

    def _damaged(self, run_id: str, name: str, why: object, delete: Path | None = None) -> RunError:
        """The error of a file that cannot be used; `delete` names what to, None: all of the run."""
        folder = self.run_dir(run_id)
        what = f"the folder {folder}" if delete is None else "it"
        return RunError(f"{folder / name} cannot be read ({_phrase(why)}): delete {what} and run again.")

    # -- writing -----------------------------------------------------------------------------------------------------
    def open_for_writing(self) -> None:
        """Create the folder; UsageError if it is not writable, holds pages that are not this study's, or was written by
        a newer version."""
        try:
            str(self.root).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The name of the results folder {self.root} is not UTF-8, and notebooks, which hold it, are: choose "
                "another --results."
            ) from error
        marker = self.root / "store.json"
        foreign = [name for name in ("notebooks", "index.html") if (self.root / name).exists()]
        if foreign and not marker.exists():
            raise UsageError(
                f"{self.root} is no results folder and has {listed(foreign)}, which would be written over: choose "
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
            found = json.loads(marker.read_bytes())["version"]
            newer = found > VERSION
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
        """Merge `changes` into status.json; one that cannot be read is replaced."""
        old: dict[str, Any] = {}
        with contextlib.suppress(RunError):
            old = self._json(run_id, "status.json")
        write_json(self.run_dir(run_id) / "status.json", {**old, **changes})

    @contextlib.contextmanager
    def lock_run(self, run_id: str) -> Iterator[None]:
        """Hold the run for this process; RunError if another process trains it."""
        self.run_dir(run_id).mkdir(parents=True, exist_ok=True)
        with locked(self.run_dir(run_id) / ".lock") as owner:
            if owner is not None:
                raise RunError(f"Run {run_id} is being trained by {owner}: wait for it or choose another --results.")
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the whole store for training; while another process does, say so and wait."""
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


def _is_status(status: dict[str, Any]) -> bool:
    def fits(found: dict[str, Any], types: dict[str, type]) -> bool:
        return all(isinstance(found[name], kind) for name, kind in types.items() if found.get(name) is not None)

    data, versions = status.get("data"), status.get("versions")
    return (
        fits(status, _STATUS)
        and status.get("state") is not None
        and (not data or (fits(data, _DATA) and all(data.get(name) is not None for name in _DATA)))
        and (not versions or all(isinstance(version, str) for version in versions.values()))
    )


def _phrase(why: object) -> str:
    """One line, and a short one, of an error whose text may quote a damaged file."""
    return " ".join((str(why) or type(why).__name__).split())[:200].rstrip(".")
