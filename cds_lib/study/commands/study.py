"""The commands of the study: run everything, write the report again, show the state."""

import argparse
import os
import sys
from pathlib import Path

from cds_lib.errors import TrainingError, UsageError
from cds_lib.study import analyses
from cds_lib.study.checkout import NOTEBOOKS
from cds_lib.study.commands import dry_run
from cds_lib.study.data import registry
from cds_lib.study.data.cli import data_state
from cds_lib.study.engines import analysis_engine, local_engine, runner, slurm_jobs
from cds_lib.study.plan import protocols
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Table, narrowed
from cds_lib.study.report.notebook_files import PARAMETERS
from cds_lib.study.report.notebook_files import fault as notebook_file_fault
from cds_lib.study.store import Store, results_dir
from cds_lib.study.tables import TABLES, official
from cds_lib.study.tables.table4_coco import DETECTORS
from cds_lib.study.text import counted


def run_all(options: argparse.Namespace) -> int:
    """`run-all`: train the union of all runs, analyse them, execute the notebooks, write tables and index.

    --models and --methods restrict what is trained. Tables and notebooks stay complete and show the results that exist.

    Returns 1 if anything failed.
    """
    tables, notebook_files, profile, seeds, store = _study(options)
    if not options.only and not options.list:
        tables = official()
    trained = narrowed(tables, profile, options.models, options.methods)
    if options.jobs < 0:
        raise UsageError(f"--jobs must be 1 or more, not {options.jobs}.")
    if options.processes < 1:
        raise UsageError(f"--processes must be 1 or more, not {options.processes}.")
    if options.compile and options.processes > 1:
        raise UsageError("--compile is for runs of one process: leave it out, or --processes.")
    engine = _engine(options)
    data_root = registry.data_root(options.data_root).absolute()
    if options.offline:
        os.environ["CDS_OFFLINE"] = "1"
    if options.list:
        return _list(trained, notebook_files, data_root)
    plan = runner.make_plan(trained, profile, seeds, store, options.retry_failed)
    print(f"Profile {profile}, results in {store.root}.\n{protocols.DESCRIPTIONS[profile]}", flush=True)
    if options.dry_run or not plan.missing:  # otherwise the training prints it
        print(f"{plan.describe()}.", flush=True)
    for path in notebook_files:
        if why := notebook_file_fault(path, PARAMETERS):
            print(f"Not to be executed: {why}", flush=True)
    if options.dry_run:
        for line in dry_run.lines(plan, trained, profile, seeds, store, data_root):
            print(line)
        possible, _ = analyses.missing(trained, profile, seeds, store)
        if possible:
            print(f"{counted(sum(len(task.names) for task in possible), 'analysis')} of finished runs to compute.")
        return 0
    for run_id in filter(store.is_done, store.ids()):
        store.status(run_id)  # pages read them all: report a damaged one now, not after the training
    store.open_for_writing()
    failed = runner.train_missing(plan, store, data_root, engine)
    jobs = 1 if options.engine == "slurm" else options.jobs  # with Slurm, this is a login node
    unanalysed = analysis_engine.compute_missing(trained, profile, seeds, store, data_root, jobs=jobs)
    broken = _report(tables, notebook_files, profile, seeds, store)
    if failed or plan.failed or unanalysed or broken:
        print(
            f"Failed: {counted(len(failed) + len(plan.failed), 'run')}, {counted(len(unanalysed), 'analysis')}, "
            f"{counted(len(broken), 'report')}; "
            "the index names the runs and reports (--retry-failed trains failed runs again).",
            file=sys.stderr,
        )
        return 1
    return 0


def report_again(options: argparse.Namespace) -> int:
    """`report`: write tables, notebooks and index from what the store holds; trains nothing."""
    chosen = _study(options)
    chosen[-1].open_for_writing()
    return 1 if _report(*chosen) else 0


def status(options: argparse.Namespace) -> int:
    """`status`: print a line per table, then a line for every run that is queued, running, interrupted or failed."""
    tables, _, profile, seeds, store = _study(options)
    there = "" if store.root.exists() else ", a folder that is not there"
    print(f"Profile {profile}, results in {store.root}{there}.")
    for table in tables:
        print(f"{table.name}: {runner.make_plan([table], profile, seeds, store, retry_failed=False).describe()}")
    try:
        jobs = slurm_jobs.alive(store)
    except TrainingError as error:
        print(f"{error} Its queued and running jobs are not shown and may appear as interrupted.")
        jobs = {}
    specs = {spec.id: spec for table in tables for spec in table.runs(profile, seeds)}
    if not options.only:  # the user's own runs as well
        specs |= {run_id: store.spec(run_id) for run_id in store.ids() if run_id not in specs}
    for spec in specs.values():
        if line := _state_line(spec, store, jobs.get(spec.id)):
            print(f"  {line}")
    return 0


def _state_line(spec: RunSpec, store: Store, job: slurm_jobs.Job | None) -> str:
    """Return the state of a run that began or is queued, else "". Locks do not cover other nodes; the queue does."""
    state = store.status(spec.id)
    name = f"{spec.id} {spec.label}, epoch {len(store.history(spec.id))}/{spec.budget.epochs}"
    if job:
        log = store.run_dir(spec.id) / "log.txt"
        return f"{'running' if job.started else 'queued'} {name}, {job.words}, log {log if log.exists() else job.log}"
    if not state or state["state"] == "done":
        return ""
    return f"{state['state']} {name}" + (f": {state['error']}" if state.get("error") else "")


def _engine(options: argparse.Namespace) -> runner.Engine:
    """Return the engine that --engine names, with its options."""
    how = (options.jobs, options.processes, options.compile)
    if options.engine == "slurm":
        from cds_lib.study.engines import slurm_engine  # submitit is needed by nothing else

        return slurm_engine.SlurmEngine(slurm_engine.parse_options(options.slurm), *how)
    if options.slurm:
        raise UsageError("--slurm sets the options of Slurm jobs: add --engine slurm.")
    return local_engine.LocalEngine(*how)


def _study(options: argparse.Namespace) -> tuple[list[Table], list[Path], str, Seeds, Store]:
    """Return the tables and notebook files that --only names (all if empty), the profile, the seeds and the store."""
    files = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    everything = list(dict.fromkeys([*files, *TABLES]))
    names = [name.strip() for name in options.only.split(",") if name.strip()] if options.only else everything
    if not names:
        raise UsageError(f"--only names no table and no notebook: choose from {', '.join(everything)}.")
    for name in names:
        if name not in files and name not in TABLES:
            raise UsageError(f"There is no table or notebook {name!r}: choose from {', '.join(everything)}.")
    tables, files = ([known[name] for name in names if name in known] for known in (TABLES, files))
    profile = protocols.check_profile(options.profile)
    store = Store(results_dir(profile, options.results).absolute())
    return tables, files, profile, protocols.parse_seeds(options.seeds), store


def _list(tables: list[Table], notebook_files: list[Path], data_root: Path) -> int:
    print("Tables and notebooks (number of runs in the profiles " + ", ".join(protocols.PROFILES) + "):")
    for table in tables:
        counts = [len(table.runs(profile, None)) for profile in protocols.PROFILES]
        apart = "" if table.official else " (only with --only)"
        print(f"  {table.name:28} {' / '.join(map(str, counts)):16} {table.heading}{apart}")
    for path in notebook_files:
        if path.stem not in TABLES:
            print(f"  {path.stem:28} {'-':16} notebook without runs of its own")
    cells = {
        profile: [cell for table in tables for cell in table.cells(profile, None)] for profile in protocols.PROFILES
    }
    for title, name in (("Networks", "model"), ("Methods", "method"), ("Settings", "setting")):
        print(f"{title} (runs that fill a cell, in the same profiles):")
        for value in dict.fromkeys(getattr(cell, name) for cell in cells["paper"]):
            runs = [
                {spec.id for cell in cells[profile] if getattr(cell, name) == value for spec in cell.specs}
                for profile in protocols.PROFILES
            ]
            kind = " (detector)" if value in DETECTORS else ""
            print(f"  {value:28} {' / '.join(str(len(ids)) for ids in runs)}{kind}")
    print(f"Data sets, in {data_root}:")
    for entry in registry.entries().values():
        state, where = data_state(entry, data_root)
        print(f"  {entry.name:28} {state:38} {entry.title}")
    return 0


def _report(tables: list[Table], notebook_files: list[Path], profile: str, seeds: Seeds, store: Store) -> list[str]:
    from cds_lib.study.report.write import write_report  # slow to import, and needed only once there are results

    return write_report(tables, notebook_files, profile, seeds, store, jobs=local_engine.cores())
