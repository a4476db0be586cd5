"""What `--dry-run` prints: the runs that would be trained, and what they would cost, table by table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cds_lib.data import registry
from cds_lib.data.cli import held_at
from cds_lib.engines.runner import Plan
from cds_lib.errors import UsageError
from cds_lib.study import costs, step_cost
from cds_lib.study.protocols import Seeds
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.text import counted, duration


def lines(
    plan: Plan, tables: Sequence[Table], profile: str, seeds: Seeds, store: Store, data_root: Path
) -> Iterator[str]:
    """One line a run to train, one a data set that is not there, then the costs of what is missing: a line a table and
    one for all of them together."""
    for spec in plan.missing:
        yield f"  to train: {spec.id} {spec.label}"
    if not plan.missing:
        return
    needed: dict[str, list[RunSpec]] = {}
    for spec in plan.missing:
        if spec.budget.source == "real":
            needed.setdefault(spec.dataset, []).append(spec)
    for name, specs in needed.items():
        if not held_at(known := registry.entry(name), data_root):
            yield (
                f"{known.title} is not in {data_root}: {counted(len(specs), 'run')} would not be trained "
                f"(python -m cds_lib data fetch {name} --data-root {data_root})."
            )
        elif known.layout != "coco":
            for reason, runs in _too_small(known, specs, data_root).items():
                yield f"{counted(runs, 'run')} would not be trained: {reason}"
    if all(step_cost.is_kept(spec) for spec in (*plan.missing, *plan.done)):
        yield from _costs(plan, tables, profile, seeds)
    else:
        yield "What this costs was not counted beforehand (python -m cds_lib.study.step_cost does, in some minutes)."
    yield from _cpu_time(plan, store)


def _too_small(known: registry.DataSet, specs: Sequence[RunSpec], data_root: Path) -> Counter[str]:
    """Why runs cannot be trained on what was imported of their set -> how many of them."""
    from cds_lib.engines import split  # NumPy and Pillow, which `--help` can do without

    try:
        labels = split.labels_at_hand(known, data_root)
    except UsageError as error:
        return Counter({str(error): len(specs)})
    return Counter() if labels is None else Counter(split.too_small(specs, labels, known.title).values())


def _costs(plan: Plan, tables: Sequence[Table], profile: str, seeds: Seeds) -> Iterator[str]:
    """The table and what its columns are."""
    yield "What is to train costs, counted from the specs (complete data sets; a run that tables share is in each):"
    full = profile == "paper"
    heading = ("runs", "to train", "PFLOP", *(["A100-hours"] if full else []), "disk, GB")
    yield _row("table", heading)
    missing = {spec.id for spec in plan.missing}
    groups = [(table.name, table.runs(profile, seeds)) for table in tables]
    if len(groups) > 1:
        groups.append(("together, each run once", [*plan.done, *plan.missing, *plan.failed]))
    for name, specs in groups:
        cost = costs.total(spec for spec in specs if spec.id in missing)
        hours = [f"{cost.gpu_hours:,.1f}"] if full else []
        yield _row(
            name, (str(len(specs)), str(cost.runs), number(cost.flops / 1e15), *hours, gigabytes(cost.model_bytes))
        )
    largest = gigabytes(costs.total(plan.missing).peak_bytes)
    yield f"Disk: the final weights, which are kept; while a run trains, a checkpoint of {largest} GB at most besides."
    if full:
        yield f"A100-hours: at {costs.THROUGHPUT}. Nothing of this study was measured on a GPU."


def _cpu_time(plan: Plan, store: Store) -> Iterator[str]:
    """The time on this kind of machine, if anything has finished."""
    finished = [spec for spec in plan.done if store.is_done(spec.id)]
    if not finished:
        return
    seconds = {spec.id: store.metric(spec.id, "seconds") for spec in finished}
    exact: dict[str, list[float]] = {}  # id with seed 0 -> seconds of the finished seeds
    for spec in finished:
        exact.setdefault(spec.with_seed(0).id, []).append(seconds[spec.id])
    cells = [(spec, exact.get(spec.with_seed(0).id)) for spec in plan.missing]
    known = sum(sum(times) / len(times) for _, times in cells if times)
    others = [spec for spec, times in cells if not times]
    kept = all(step_cost.is_kept(spec) for spec in (*finished, *others))
    if known:
        yield f"About {duration(known)} of training for {counted(len(cells) - len(others), 'run')}, from other seeds."
    if others and kept:
        yield (
            f"Very roughly {duration(_scaled(others, finished, seconds, store))} for "
            f"{counted(len(others), 'run') if known else 'all runs'} without a finished seed: the seconds of the "
            "finished runs (of the same data set where there are any), in proportion to the operations."
        )
    if known or (others and kept):
        yield "That is one run after another; several at a time (`--jobs`), each on a core of its own, divide it."


def _scaled(specs: Sequence[RunSpec], finished: Sequence[RunSpec], seconds: dict[str, float], store: Store) -> float:
    """Seconds of `specs` at the pace of the finished runs, on the images that these had."""
    data: dict[str, tuple[int, int]] = {}
    spent: dict[str, list[tuple[float, float]]] = {}  # data set -> (seconds, operations) of its finished runs
    for spec in finished:
        found = store.status(spec.id).get("data") or {}
        if "train" in found:
            data[spec.dataset] = (found["train"], found["test"])
        operations = costs.run_cost(spec, data.get(spec.dataset)).flops
        spent.setdefault(spec.dataset, []).append((seconds[spec.id], operations))
    everything = [pair for pairs in spent.values() for pair in pairs]
    estimate = 0.0
    for spec in specs:
        times, operations = zip(*spent.get(spec.dataset, everything), strict=True)
        estimate += costs.run_cost(spec, data.get(spec.dataset)).flops * sum(times) / sum(operations)
    return estimate


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:28}" + "".join(f"{cell:>12}" for cell in cells)


def number(value: float) -> str:
    """Three significant digits at least: 0.00123, 12.3, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def gigabytes(count: float) -> str:
    """Bytes in GB (10^9), as `number`."""
    return number(count / 1e9)
