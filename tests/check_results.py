"""Check that a results folder holds every file that the study promises: python tests/check_results.py RESULTS.

Prints one line per problem and exits 1. Without a problem it prints one line and exits 0. .ci/run uses it on the smoke
profile. It works for any profile whose runs are all finished with the profile's own seeds.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

COLUMNS = "table dataset model method setting metric paper mean std n ci_low ci_high".split()
COLUMNS += "baseline_delta paper_delta verdict profile".split()
LESSON = "00_start_here"  # its three plots have other names
RUN_FILES = ("spec.json", "status.json", "metrics.json", "history.csv")

# Resources that a browser loads by itself. Links that a reader clicks may lead elsewhere.
_LOADED = re.compile(
    r"<(?:script|img|iframe|link|source|object|embed)\b[^>]*?\b(?:src|href|data)=[\"']?(?:https?:)?//"
    r"|(?:url\(|@import)\s*[\"']?(?:https?:)?//",
    re.I,
)


def problems(results: Path, tables: Iterable[str], notebooks: Iterable[str], run_ids: Iterable[str]) -> Iterator[str]:
    """Yield one sentence for each missing or wrong file in RESULTS."""
    wanted = [f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")]
    wanted += [f"figures/{name}.svg" for name in tables if name != LESSON]
    wanted += [name for notebook in notebooks for name in (f"notebooks/{notebook}.ipynb", f"html/{notebook}.html")]
    wanted += [f"runs/{run}/{name}" for run in run_ids for name in RUN_FILES]
    for path in [results / name for name in [*wanted, "index.html"]]:
        if not path.is_file() or not path.stat().st_size:
            yield f"{path} is missing or empty"
        elif path.parent.name == "tables" and path.suffix == ".csv":
            yield from _table_problems(path)
        elif path.name == "status.json" and (state := json.loads(path.read_text(encoding="utf-8"))["state"]) != "done":
            yield f"run {path.parent.name} is {state}"
    for page in [*results.glob("index.html"), *results.glob("html/*.html")]:
        for loaded in _LOADED.finditer(page.read_text(encoding="utf-8")):
            yield f"{page.name} loads from elsewhere: {loaded.group()!r}"
    for figure in results.glob("figures/*.svg"):
        try:
            ElementTree.parse(figure)
        except ElementTree.ParseError as error:
            yield f"{figure.name} is no SVG ({error})"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table_problems(path: Path) -> Iterator[str]:
    rows = _rows(path)
    lacking = {*COLUMNS} - {*rows[0]} if rows else {"rows"}
    if lacking:
        yield f"{path.name} lacks {', '.join(sorted(lacking))}"
        return
    for row in rows:
        if int(row["n"]) == 0 or not row["mean"]:
            yield f"{path.name}: {row['model']} {row['method']} was not run"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/check_results.py RESULTS")
    from cds_lib.study.tables import official

    results = Path(sys.argv[1])
    tables = {table.name: table for table in official()}
    files = (path for path in results.glob("tables/*.csv") if path.stem in tables)
    profiles = {row["profile"] for path in files for row in _rows(path)}
    if len(profiles) != 1:
        sys.exit(f"{results} must hold the tables of one profile, it has those of {sorted(profiles) or 'none'}")
    (profile,) = profiles
    run_ids = {spec.id for table in tables.values() for spec in table.runs(profile, None)}
    notebooks = {path.stem for path in (Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb")}
    found = list(problems(results, tables, sorted(notebooks | set(tables)), sorted(run_ids)))
    if found:
        sys.exit("\n".join(found))
    print(f"{results}: {len(run_ids)} runs, {len(tables)} tables, {len(notebooks)} notebooks, all files are there")


if __name__ == "__main__":
    main()
