"""Check that a results folder holds every file that the study promises: python tests/check_results.py RESULTS.

Prints what is wrong, one line each, and exits 1; prints one line and exits 0 when nothing is. Used by .ci/run on the
smoke profile, good for any profile whose runs are all finished, with the profile's own seeds.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

COLUMNS = "table dataset model method setting metric paper mean std n ci_low ci_high".split()
COLUMNS += "baseline_delta paper_delta verdict profile".split()
LESSON = "00_start_here"  # its three plots have names of their own
RUN_FILES = ("spec.json", "status.json", "metrics.json", "history.csv")

# What a browser would load by itself: a link that is only clicked on may lead elsewhere.
_LOADED = re.compile(
    r"<(?:script|img|iframe|link|source|object|embed)\b[^>]*?\b(?:src|href|data)=[\"']?(?:https?:)?//", re.I
)
_STYLE_LOADED = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", re.I)


def problems(results: Path, tables: Iterable[str], notebooks: Iterable[str], run_ids: Iterable[str]) -> list[str]:
    """What is missing or wrong in RESULTS, one sentence each."""
    found = []
    for name in tables:
        found += _missing(results / "tables", [f"{name}.{suffix}" for suffix in ("csv", "md", "tex")])
        found += _table_problems(results / "tables" / f"{name}.csv")
    for name in notebooks:
        found += _missing(results, [f"notebooks/{name}.ipynb", f"html/{name}.html"])
    found += _missing(results, ["index.html"])
    for page in [results / "index.html", *sorted((results / "html").glob("*.html"))]:
        found += _page_problems(page)
    found += _missing(results / "figures", [f"{name}.svg" for name in tables if name != LESSON])
    for figure in filter(_filled, sorted((results / "figures").glob("*.svg"))):
        try:
            ElementTree.parse(figure)
        except ElementTree.ParseError as error:
            found.append(f"{figure.name} is no SVG ({error})")
    for run_id in run_ids:
        found += _run_problems(results / "runs" / run_id)
    return found


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [f"{folder / name} is missing or empty" for name in names if not _filled(folder / name)]


def _filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table_problems(path: Path) -> list[str]:
    if not _filled(path):
        return []
    rows = _rows(path)
    if not rows:
        return [f"{path.name} has no rows"]
    lacking = [column for column in COLUMNS if column not in rows[0]]
    if lacking:
        return [f"{path.name} lacks the columns {', '.join(lacking)}"]
    empty = [row for row in rows if int(row["n"]) == 0 or not row["mean"]]
    return [f"{path.name}: {row['model']} {row['method']} was not run" for row in empty]


def _page_problems(path: Path) -> list[str]:
    if not _filled(path):
        return []
    text = path.read_text(encoding="utf-8")
    found = [match.group() for pattern in (_LOADED, _STYLE_LOADED) for match in pattern.finditer(text)]
    return [f"{path.name} loads from elsewhere: {loaded!r}" for loaded in found]


def _run_problems(folder: Path) -> list[str]:
    if not folder.is_dir():
        return [f"run {folder.name} was planned and never started"]
    lacking = _missing(folder, RUN_FILES)
    if lacking:
        return lacking
    state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
    return [] if state == "done" else [f"run {folder.name} is {state}"]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/check_results.py RESULTS")
    from cds_lib.study.tables import official

    results = Path(sys.argv[1])
    tables = {table.name: table for table in official()}
    files = filter(_filled, (results / "tables" / f"{name}.csv" for name in tables))
    profiles = {row["profile"] for path in files for row in _rows(path)}
    if len(profiles) != 1:
        sys.exit(f"{results} must hold the tables of one profile, it has those of {sorted(profiles) or 'none'}")
    profile = profiles.pop()
    run_ids = {spec.id for table in tables.values() for spec in table.runs(profile, None)}
    notebooks = {path.stem for path in (Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb")}
    found = problems(results, tables, sorted(notebooks | set(tables)), sorted(run_ids))
    if found:
        sys.exit("\n".join(found))
    print(f"{results}: {len(run_ids)} runs, {len(tables)} tables, {len(notebooks)} notebooks, all files are there")


if __name__ == "__main__":
    main()
