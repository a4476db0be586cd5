"""The store: one folder a run, named by the run's id, under RESULTS/runs.

    spec.json      what the run is
    status.json    running | done | failed | interrupted, when, where, with which versions, data and code
    history.csv    one row an epoch
    metrics.json   the results; it is written last, so a run is finished exactly when it is there
    split.npz      the training and validation images drawn from the training set
    checkpoint.pt  while it trains; model.pt, the final weights, afterwards

Every file is written under a temporary name and renamed, so none is ever seen half-written. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cds_lib.errors import RunError, UsageError
from cds_lib.files import is_locked, locked, write_json
from cds_lib.study.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


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
        return (self.run_dir(run_id) / "metrics.json").exists()

    def spec(self, run_id: str) -> RunSpec:
        return RunSpec.from_dict(self._json(run_id, "spec.json"))

    def metrics(self, run_id: str) -> dict[str, Any]:
        """The finished run's results; percent for accuracies, seconds and MiB for costs."""
        return self._json(run_id, "metrics.json")

    def status(self, run_id: str) -> dict[str, Any]:
        """The run's status, {} if it never started. "running" only if a process holds its lock now."""
        if not (self.run_dir(run_id) / "status.json").exists():
            return {}
        status = self._json(run_id, "status.json")
        if status["state"] == "running" and not is_locked(self.run_dir(run_id) / ".lock"):
            status["state"] = "interrupted"
        return status

    def history(self, run_id: str) -> pd.DataFrame:
        """One row an epoch; an empty frame before the first epoch is complete."""
        import pandas as pd

        path = self.run_dir(run_id) / "history.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame()

    def _json(self, run_id: str, name: str) -> dict[str, Any]:
        path = self.run_dir(run_id) / name
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path} cannot be read ({error}): delete the folder {path.parent} and run again."
            ) from error

    # -- writing -----------------------------------------------------------------------------------------------------
    def open_for_writing(self) -> None:
        """Create the folder; UsageError if it is not writable or was written by a newer version."""
        marker = self.root / "store.json"
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            if marker.exists():
                found = json.loads(marker.read_text())["version"]
                if found > VERSION:
                    raise UsageError(
                        f"{self.root} was written by a newer version of the study (store version {found}, this one "
                        f"knows {VERSION}): update the code or choose another --results folder."
                    )
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            if not marker.exists():
                write_json(marker, {"version": VERSION})
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"The results folder {self.root} cannot be used ({error}): "
                "make it writable or choose another --results."
            ) from error

    def write_status(self, run_id: str, **changes: Any) -> None:
        """Merge `changes` into status.json."""
        path = self.run_dir(run_id) / "status.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, {**old, **changes})

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
        """Hold the whole store for training; UsageError if another process trains in it."""
        with locked(self.root / ".lock") as owner:
            if owner is not None:
                raise UsageError(
                    f"{self.root} is in use by {owner}: wait until it has finished or choose another --results folder."
                )
            yield
