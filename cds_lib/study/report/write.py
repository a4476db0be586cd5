"""The whole report of a results folder: tables, comparisons, figures, executed notebooks, pages."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from cds_lib.files import replacing
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.errors import RunError
from cds_lib.study.files import write_text
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table
from cds_lib.study.report import figures, notebooks, pages
from cds_lib.study.report.comparisons import comparisons
from cds_lib.study.report.frame import every_result, tidy
from cds_lib.study.report.index import borne_out, write_index, write_provenance
from cds_lib.study.report.table_files import write_table
from cds_lib.study.report.verdicts import claimed
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES
from cds_lib.study.text import duration

_PACKAGES = ("matplotlib", "numpy", "pandas", "scipy", "seaborn", "torch")


def write_report(
    tables: list[Table], notebook_files: list[Path], profile: str, seeds: Seeds, store: Store, jobs: int
) -> list[str]:
    """Write the report of finished runs, `jobs` notebooks at a time; return the names of the reports that failed."""
    frames = every_result(TABLES.values(), profile, seeds, store)  # a notebook may read the tables of others
    for table in tables:
        if table.name != SUMMARY:
            write_table(tidy(frames[table.name]), table, store.root)
    write_table(claimed(frames, profile, seeds, store), TABLES[SUMMARY], store.root)  # of all, whatever was asked for
    compared = comparisons(frames)
    write_text(store.root / "tables" / "comparisons.csv", compared.to_csv(index=False, lineterminator="\n"))
    mpl.use("agg")  # no window
    figures.save(figures.key_figure(frames), store.root / "figures" / "key.svg", figures.KEY)
    results = _execute(notebook_files, frames, profile, seeds, store, jobs)
    pages.render_notebooks(store.root, [result.name for result in results])
    write_provenance(store.root)
    failed = [result.name for result in results if not result.ok]
    try:
        if borne_out(store.root, profile):
            write_article(store.root)
        else:  # the article is about other results
            (store.root / "article.pdf").unlink(missing_ok=True)
    except RunError as error:
        print(f"article: FAILED: {error}", flush=True)
        failed.append("article")
    index = write_index(store.root, profile, results)
    for name, why in pages.damaged(store.root).items():
        if name not in failed:  # left by another command
            print(f"{name}: FAILED: {why}", flush=True)
            failed.append(name)
    print(f"Report: {index}", flush=True)
    return failed


def write_article(results: Path) -> None:
    """Write RESULTS/article.pdf: the text of article.typ with numbers and figures of the results folder. The same
    results give the same bytes.

    Raises:
        RunError: a row or figure that the article names is missing, or a difference does not lie where it says.
    """
    import typst  # needed by this function alone

    source = Path(__file__).with_name("article.typ").read_bytes()
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"  # the fonts of the figures
    try:
        written = typst.compile(source, root=results, font_paths=[fonts])
    except typst.TypstError as error:
        raise RunError(f"The article does not fit {results}: {' '.join(str(error).split())}.") from error
    with replacing(results / "article.pdf") as file:
        file.write(written)


def _execute(
    files: list[Path], frames: Mapping[str, pd.DataFrame], profile: str, seeds: Seeds, store: Store, jobs: int
) -> list[notebooks.NotebookResult]:
    """Execute the notebooks, which only read: everything that could be trained has been."""
    root = store.root  # relative if inside the checkout, since executed notebooks are committed
    root = root.relative_to(CHECKOUT) if root.is_relative_to(CHECKOUT) else root
    wanted = ",".join(map(str, seeds or ()))
    parameters = {"profile": profile, "results": str(root), "data_root": "", "seeds": wanted, "train": False}
    # Notebooks without a table compute something themselves and take longest, so they begin first.
    files = sorted(files, key=lambda path: path.stem in TABLES)
    evidence, results = _evidence(frames, store), []
    pairs = [(path, store.root / "notebooks" / path.name) for path in files]
    for number, result in enumerate(notebooks.execute(pairs, parameters, evidence=evidence, jobs=jobs), 1):
        how = f"done in {duration(result.seconds)}" if result.seconds else "unchanged"
        how = how if result.ok else f"FAILED: {result.error}"
        print(f"[{number}/{len(files)}] notebook {result.name}: {how}", flush=True)
        results.append(result)
    return results


def _evidence(frames: Mapping[str, pd.DataFrame], store: Store) -> str:
    """Return a hash of all that a notebook's output depends on: the results, the code, the packages that draw.

    Engines and commands are left out because they only train. The numbers of a finished run stand for its files, which
    never change.
    """
    found = hashlib.sha256()
    for frame in frames.values():
        found.update(frame.to_csv().encode())
    unfinished = {run_id: store.status(run_id).get("state") for run_id in store.ids() if not store.is_done(run_id)}
    found.update(repr([unfinished, *((name, version(name)) for name in _PACKAGES)]).encode())
    for path in sorted([*(CHECKOUT / "cds_lib").rglob("*"), *(CHECKOUT / "docs").glob("deviations*.md")]):
        if path.suffix in (".py", ".yaml", ".toml", ".md") and path.parent.name not in ("engines", "commands"):
            found.update(path.read_bytes())
    return found.hexdigest()
