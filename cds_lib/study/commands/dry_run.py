"""The output of `--dry-run`: the runs that would be trained, and what they would cost, table by table."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.commands import costs
from cds_lib.study.data import registry
from cds_lib.study.engines.runner import Plan
from cds_lib.study.plan.protocols import PROFILES, Seeds
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Table
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES
from cds_lib.study.text import counted, duration


def lines(
    plan: Plan, tables: Sequence[Table], profile: str, seeds: Seeds, store: Store, data_root: Path
) -> Iterator[str]:
    """Yield one line per run to train and per missing data set, then the costs of the missing runs: one line per table
    and one for all tables together."""
    for spec in plan.missing:
        yield f"  to train: {spec.id} {spec.label}"
    if not plan.missing:
        return
    needed: dict[str, list[RunSpec]] = {}
    for spec in plan.missing:
        if spec.budget.source == "real":
            needed.setdefault(spec.dataset, []).append(spec)
    for name, specs in needed.items():
        known = registry.entry(name)
        if not known.held_at(data_root):
            yield (
                f"{known.title} is not in {data_root}: {counted(len(specs), 'run')} would not be trained "
                f"(python -m cds_lib data fetch {name} --data-root {data_root})."
            )
        elif known.layout != "coco":
            for reason, runs in _too_small(known, specs, data_root).items():
                yield f"{counted(runs, 'run')} would not be trained: {reason}"
    yield from _table(plan, tables, profile, seeds)
    yield from _measured(plan, profile, store)


def _too_small(known: registry.DataSet, specs: Sequence[RunSpec], data_root: Path) -> Counter[str]:
    """Return reason -> number of runs, for the runs that cannot be trained on the imported part of their data set."""
    from cds_lib.study.data import folders  # imports NumPy and Pillow, which `--help` does not need
    from cds_lib.study.engines import split

    if known.is_official(data_root):  # the published files take precedence and are complete
        return Counter()
    try:
        held, _ = folders.read_imported(known, data_root)
    except UsageError as error:
        return Counter({str(error): len(specs)})
    return Counter(split.too_small(specs, held.train_labels, known.title).values())


def say_what_lacks(known: registry.DataSet, data_root: Path) -> None:
    """Print for a data set just imported why some runs of each profile cannot be trained on it, a line per reason."""
    for profile in PROFILES if known.layout != "coco" else ():
        specs = {spec.id: spec for table in TABLES.values() for spec in table.runs(profile, None)}
        specs = [spec for spec in specs.values() if spec.dataset == known.name and spec.budget.source == "real"]
        for reason, runs in _too_small(known, specs, data_root).items():
            print(f"Profile {profile}: {runs} of {counted(len(specs), 'run')} cannot be trained: {reason}")


def _table(plan: Plan, tables: Sequence[Table], profile: str, seeds: Seeds) -> Iterator[str]:
    """Yield how many runs each table has and how many are to train; in the paper profile also their computed cost."""
    full, missing = profile == "paper", {spec.id for spec in plan.missing}
    if full:
        yield "Counting what a step of each kind of run costs, some minutes for the whole study ..."
    groups = [(table.name, table.runs(profile, seeds)) for table in tables]
    if len(groups) > 1:
        groups.append(("together, each run once", [*plan.done, *plan.missing, *plan.failed]))
    rows = [_row("table", ("runs", "to train", *(["PFLOP", "A100-hours", "disk, GB"] if full else [])))]
    for name, specs in groups:
        to_train = [spec for spec in specs if spec.id in missing]
        cost = costs.total(to_train) if full else costs.Cost()
        counted_ = (number(cost.flops / 1e15), f"{cost.gpu_hours:,.1f}", gigabytes(cost.model_bytes)) if full else ()
        rows.append(_row(name, (str(len(specs)), str(len(to_train)), *counted_)))
    where = "complete data sets; " if full else ""
    yield f"Runs to train ({where}a run shared by several tables counts in each):"
    yield from rows
    if full:
        largest = gigabytes(costs.total(plan.missing).checkpoint_bytes)
        yield f"Disk: final weights. In addition, each run in training has a checkpoint of at most {largest} GB."
        yield f"A100-hours: at {costs.THROUGHPUT}. Nothing of this study was measured on a GPU."


def _measured(plan: Plan, profile: str, store: Store) -> Iterator[str]:
    """Yield an estimate of the training time, if similar runs have finished here or in the results of this checkout."""
    ours = Store(results_dir(profile))
    seconds: dict[str, list[float]] = {}  # kind of run -> seconds of its finished runs
    for one in {store.root: store, ours.root: ours}.values():
        for run_id in filter(one.is_done, one.ids()):
            for kind in _kinds(one.spec(run_id)):
                seconds.setdefault(kind, []).append(one.metric(run_id, "seconds"))
    times = [next((seconds[kind] for kind in _kinds(spec) if kind in seconds), None) for spec in plan.missing]
    known = [sum(found) / len(found) for found in times if found]
    if known:
        yield (
            f"Very roughly {duration(sum(known))} of training for {counted(len(known), 'run')} of {len(times)} in "
            f"sequence, from the mean of finished runs (here or in {ours.root.name}) that differ only in the seed, or "
            "else have the same network or data set. `--jobs` divides it if every job has a core."
        )


def _kinds(spec: RunSpec) -> tuple[str, ...]:
    """Return the keys that runs of similar cost share, the most specific first."""
    place = f"{spec.dataset} {spec.setting}"
    broader = (f"{place} {spec.model} {spec.method}", f"{place} {spec.model}", f"{spec.setting} {spec.model}")
    return spec.with_seed(0).id, *broader, spec.dataset


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:28}" + "".join(f"{cell:>12}" for cell in cells)


def number(value: float) -> str:
    """Format with at least three significant digits: 0.00123, 12.3, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def gigabytes(count: float) -> str:
    """Format bytes in GB (10^9), as `number` does."""
    return number(count / 1e9)
