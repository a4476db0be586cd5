"""The whole report of a results folder: tables, comparisons, figures, executed notebooks, pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import RunError
from cds_lib.study.protocols import Seeds
from cds_lib.study.report import figures, notebooks, pages, report, summary, verdicts
from cds_lib.study.report.article import write_article
from cds_lib.study.report.comparisons import comparisons
from cds_lib.study.report.frame import write_frame
from cds_lib.study.report.index import borne_out, write_index, write_provenance
from cds_lib.study.report.key_figure import key_figure
from cds_lib.study.report.notebook_files import PARAMETERS
from cds_lib.study.report.notebooks import NotebookResult
from cds_lib.study.store import Store
from cds_lib.study.table import Table
from cds_lib.study.tables import SUMMARY
from cds_lib.study.text import duration


def write_report(
    tables: list[Table], notebook_files: list[Path], profile: str, seeds: Seeds, store: Store, jobs: int
) -> list[str]:
    """Write all but the runs, `jobs` notebooks at a time; returns the names of the reports that failed."""
    for table in tables:
        if table.name != SUMMARY:
            report.write_table(report.tidy(table, profile, seeds, store), table, store.root)
    summary.write(verdicts.tidy(profile, seeds, store), store.root)  # of all tables, whichever were asked for
    write_frame(comparisons(profile, seeds, store), store.root / "tables" / "comparisons.csv")
    figures.save(key_figure(profile, seeds, store), store.root / "figures" / "key.svg", key_figure.__doc__)
    # The notebooks only read: everything that could be trained has been.
    values = (profile, _from_repository(store.root), "", ",".join(map(str, seeds or ())), False)
    parameters = dict(zip(PARAMETERS, values, strict=True))

    def execute(path: Path) -> NotebookResult:
        return notebooks.execute(path, store.root / "notebooks" / path.name, parameters)

    results = []
    # Each notebook is a process of its own; the threads only wait for them.
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for number, result in enumerate(pool.map(execute, notebook_files), 1):
            how = "done" if result.ok else f"FAILED: {result.error}"
            print(
                f"[{number}/{len(notebook_files)}] notebook {result.name}: {how} in {duration(result.seconds)}",
                flush=True,
            )
            results.append(result)
    pages.render_notebooks(store.root, [result.name for result in results])
    write_provenance(store.root)
    failed = [result.name for result in results if not result.ok] + _article(store.root, profile)
    index = write_index(store.root, profile, results)
    for name, why in pages.damaged(store.root).items():
        if name not in failed:  # left by another command
            print(f"{name}: FAILED: {why}", flush=True)
            failed.append(name)
    print(f"Report: {index}", flush=True)
    return failed


def _article(results: Path, profile: str) -> list[str]:
    """Its name if it failed. What people wrote about other results is not there."""
    if not borne_out(results, profile):
        (results / "article.pdf").unlink(missing_ok=True)
        return []
    try:
        write_article(results)
    except RunError as error:
        print(f"article: FAILED: {error}", flush=True)
        return ["article"]
    return []


def _from_repository(path: Path) -> str:
    """Relative where possible: an executed notebook is committed and must not carry a machine's paths."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
