"""Train a finished run again, and compare its history with the one that was kept, to the last digit."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cds_lib.errors import TrainingError, UsageError
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.engines import provenance
from cds_lib.study.engines.kernels import Kernels, candidates
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store

_TIMES = ("seconds", "images_per_second")


@dataclass(frozen=True)
class Outcome:
    """Result of a training with one choice of `kernels`. differences: one line per column of the history that differs,
    none if all is identical; store: where the new run is."""

    kernels: Kernels
    differences: list[str]
    store: Store


def reproduce(
    run_id: str, store: Store, data_root: Path, folder: Path, epochs: int | None, say: Callable[[str], None]
) -> list[Outcome]:
    """Train a finished run again, in `folder`, and compare. Runs that it starts from are trained first if their weights
    are missing.

    If it is unknown which kernels the run was trained with, all candidates are tried until one fits.

    Args:
        epochs: epochs to compare, None for all.
        say: called with a line of progress.

    Returns:
        An outcome for each choice of kernels that was tried; after an identical one no more are tried.

    Raises:
        UsageError: it cannot be checked.
    """
    if not store.is_done(run_id):
        raise UsageError(f"There is no finished run {run_id!r} in {store.root}.")
    spec, status = store.spec(run_id), store.status(run_id)
    store.history(run_id)  # RunError if it is damaged
    _refuse_other_surroundings(status)
    possible = candidates(status)
    lacks = [kernels.lack for kernels in possible if kernels.lack]
    if len(lacks) == len(possible):
        raise UsageError(f"It was trained with kernels for {possible[0].name}, and {lacks[0]}.")
    parent = spec.parent and _trained_parent(spec.parent, store, data_root, folder, say)
    outcomes: list[Outcome] = []
    for kernels in possible:
        if kernels.lack:
            continue
        again = Store(folder / kernels.name)
        again.run_dir(run_id).parent.mkdir(parents=True, exist_ok=True)
        if parent and not again.run_dir(spec.parent.id).exists():
            again.run_dir(spec.parent.id).symlink_to(parent.absolute())
        # The first epoch shows whether the images and the kernels are the right ones.
        for stop in dict.fromkeys((1, min(epochs or spec.budget.epochs, spec.budget.epochs))):
            say(f"training {spec.label} for {stop} of {spec.budget.epochs} epochs, kernels for {kernels.name}")
            _train(spec, again, data_root, kernels, status, stop)
            kept, found = (s.get("data", {}).get("sha256") for s in (status, again.status(run_id)))
            if kept != found:
                raise UsageError(
                    f"It was trained on other images of {spec.dataset} (sha256 {kept}) than are here ({found})."
                )
            differences = compare(store.run_dir(run_id) / "history.csv", again.run_dir(run_id) / "history.csv")
            if differences:
                break
        outcomes.append(Outcome(kernels, differences, again))
        if not differences:
            return outcomes
    if lacks:
        tried = " or ".join(outcome.kernels.name for outcome in outcomes)
        raise UsageError(
            f"It does not come out the same with kernels for {tried}, others may have been used, and {lacks[0]}."
        )
    return outcomes


def compare(kept: Path, found: Path) -> list[str]:
    """Return one line per column of a history that differs: the first epoch where it does, and the two values there.

    `found` may have fewer epochs. Times, and columns that only `found` has, are not compared.
    """
    with open(kept, encoding="utf-8", newline="") as one, open(found, encoding="utf-8", newline="") as other:
        before, now = list(csv.DictReader(one)), list(csv.DictReader(other))
    differences = []
    for column in (name for name in before[0] if name not in _TIMES):
        for epoch, (row, again) in enumerate(zip(before, now, strict=False), 1):
            value, other_value = row[column], again.get(column, "")
            if value != other_value:
                by = f", {float(other_value) - float(value):+.2g}" if value and other_value else ""
                there = f"{value or 'nothing'} kept, {other_value or 'none'} now{by}"
                differences.append(f"{column} from epoch {epoch} on: {there}")
                break
    return differences


def _refuse_other_surroundings(status: dict) -> None:
    """Raise UsageError if the run was trained in a way that this machine cannot repeat."""
    versions = {name: version for name, version in status.get("versions", {}).items() if name != "python"}
    others = [f"{name} {version}" for name, version in versions.items() if provenance.versions().get(name) != version]
    if others or not versions:
        raise UsageError(f"It was trained with {', '.join(others) or 'unrecorded versions'}: install those.")
    if status.get("earlier"):
        raise UsageError("It was interrupted and resumed with other kernels or versions, so it cannot be reproduced.")
    if status.get("device") != "cpu" or status.get("processes", 1) > 1:
        raise UsageError("It was not trained by one process on the CPU, and only such trainings are deterministic.")


def _trained_parent(parent: RunSpec, store: Store, data_root: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of the parent run, with weights; UsageError if they are missing and cannot be trained again."""
    if store.is_trained(parent.id):
        return store.run_dir(parent.id)
    try:
        last = reproduce(parent.id, store, data_root, folder, None, say)[-1]
    except UsageError as error:
        raise UsageError(f"It starts from run {parent.id} ({parent.label}), which cannot be trained: {error}") from None
    if last.differences:
        raise UsageError(
            f"It starts from run {parent.id} ({parent.label}), which does not come out the same: {last.differences[0]}."
        )
    return last.store.run_dir(parent.id)


def _train(spec: RunSpec, again: Store, data_root: Path, kernels: Kernels, status: dict, stop_after: int) -> None:
    """Train in a process of its own, because kernels are chosen once per process; UsageError if it fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(provenance.CHOOSING)}
    recorded = {name: value for name, value in status.get("instructions", {}).items() if name.isupper()}
    paths = os.pathsep.join([str(CHECKOUT), *filter(None, [inherited.get("PYTHONPATH")])])
    own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(status.get("threads", 1))}
    done = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(spec.to_dict()), str(data_root.absolute()), str(stop_after)],
        cwd=again.root,
        env={**inherited, **recorded, **own, **kernels.environment(again.root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise UsageError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "The training was killed.")
    if not kernels.are(again.status(spec.id)["instructions"]):
        raise UsageError(f"The kernels for {kernels.name} are not available here.")


def main() -> int:
    """Train for `_train`, in a process that starts in the store; return 0 when done, 1 with a sentence on stderr."""
    from cds_lib.study.engines.execute import execute
    from cds_lib.study.processes import begin

    begin()
    spec, data_root, stop_after = sys.argv[1:]
    try:
        run = RunSpec.from_dict(json.loads(spec))
        execute(run, Store("."), Path(data_root), device="cpu", stop_after=int(stop_after))
    except (UsageError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
