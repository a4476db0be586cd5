"""Executed notebooks and the results folder as HTML pages that need nothing but themselves: no network, no script.

A notebook becomes two pages, without and with its code. Both, and the index, share `templates/page.html.j2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from cds_lib.errors import RunError, UsageError
from cds_lib.files import write_text
from cds_lib.findings import remarks
from cds_lib.pages import diagram, notebooks, overview
from cds_lib.pages.footer import provenance_rows
from cds_lib.pages.notebooks import NotebookResult
from cds_lib.reporting import printed, report, summary, verdicts, wording
from cds_lib.reporting.html import bullets
from cds_lib.study import protocols
from cds_lib.study.protocols import Seeds
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES
from cds_lib.text import duration

DEVIATIONS = "deviations"  # the report that every page refers to
TEMPLATES = Path(__file__).with_name("templates")


def render_notebook(executed: Path, html: Path, titles: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Write html/<name>.html (without code) and html/<name>.code.html from a notebook that `notebooks.execute` wrote.

    A failed notebook is rendered too, with a banner. `html` is RESULTS/html: the runs of RESULTS give the footer.
    `titles`: of all reports by name, in the order of reading, for the links to others.
    """
    titles = titles or {}
    notebook, result = notebooks.stored(executed)
    store = Store(html.parent)
    provenance = provenance_rows(store, _run_ids(result.name, store))
    paths = {"html": html / f"{result.name}.html", "code": html / f"{result.name}.code.html"}
    for kind, path in paths.items():
        with_code = kind == "code"
        body, toc = _with_contents(
            _exporter(with_code).from_notebook_node(notebook)[0], [name for name in titles if name != result.name]
        )
        failed = next((c.id for c in notebook.cells if result.error and f'cell "{c.id}"' in result.error), None)
        page = _page(
            title=_title(notebook, result.name),
            body=Markup(body),
            toc=toc,
            links=[
                {"href": "../index.html", "text": "All results", "current": False},
                {"href": f"{quote(result.name)}.html", "text": "Report", "current": not with_code},
                {"href": f"{quote(result.name)}.code.html", "text": "With code", "current": with_code},
                {"href": f"../notebooks/{quote(result.name)}.ipynb", "text": "Notebook file", "current": False},
            ],
            neighbours=_neighbours(result.name, titles, ".code.html" if with_code else ".html"),
            profile=_parameter(notebook, "profile"),
            error=result.error,
            error_anchor=f"cell-{failed}" if f'id="cell-{failed}"' in body else None,
            deviations=f"{DEVIATIONS}.html" if DEVIATIONS in titles else None,
            provenance=provenance,
            code=with_code,
        )
        write_text(path, page)
    return paths


def render_notebooks(results: Path, names: Iterable[str]) -> None:
    """Write the pages of these notebooks, and of all others if the set of reports has changed, since they link."""
    folder, html = Path(results) / "notebooks", Path(results) / "html"
    titles = {name: title for name, (title, _) in _executed(folder).items() if title is not None}
    known = {path.stem for path in html.glob("*.html") if not path.stem.endswith(".code")}
    for name in names if known == set(titles) else titles:
        if name in titles:
            render_notebook(folder / f"{name}.ipynb", html, titles)


def _executed(folder: Path) -> dict[str, tuple[str | None, NotebookResult]]:
    """Title and result of every executed notebook, in the order of reading; of a damaged one no title, and why."""
    found: dict[str, tuple[str | None, NotebookResult]] = {}
    for name in in_order(path.stem for path in folder.glob("*.ipynb")):
        try:
            notebook, result = notebooks.stored(folder / f"{name}.ipynb")
            found[name] = (_title(notebook, name), result)
        except UsageError as error:
            found[name] = (None, NotebookResult(name, False, 0.0, str(error)))
    return found


def damaged(results: Path) -> dict[str, str]:
    """{name: sentence} of the reports that earlier commands left and that cannot be read."""
    executed = _executed(Path(results) / "notebooks")
    return _damaged_tables(results) | {
        name: result.error for name, (title, result) in executed.items() if title is None
    }


def _damaged_tables(results: Path) -> dict[str, str]:
    found = {}
    for name in TABLES:
        if name != SUMMARY and (Path(results) / "tables" / f"{name}.csv").exists():
            try:
                report.read_table(name, results)
            except RunError as error:
                found[name] = str(error)
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Reports in the order of reading: the summary, the tables in theirs, then what is not about one table."""
    found = set(names)
    tables = [name for name in (SUMMARY, *TABLES) if name in found]
    return list(dict.fromkeys([*tables, *sorted(found)]))


def _neighbours(name: str, titles: Mapping[str, str], suffix: str) -> list[dict[str, str]]:
    """Links to the reports before and after this one."""
    order = list(titles)
    if name not in order:
        return []
    place = order.index(name)
    found = []
    for label, index in (("Previous", place - 1), ("Next", place + 1)):
        if 0 <= index < len(order):
            other = order[index]
            href, rel = f"{quote(other)}{suffix}", label[:4].lower()
            found.append({"label": label, "href": href, "title": titles[other], "rel": rel})
    return found


def write_index(results: Path, profile: str, seeds: Seeds = None, executed_now: Sequence[NotebookResult] = ()) -> Path:
    """Write RESULTS/index.html from what the folder holds; `seeds` are those that its tables were written for (None:
    the profile's own), `executed_now` are results just obtained.

    What CDS is, the verdicts, the tables in short with their plots, the reports, the state of the runs, the provenance.
    Works at any time, with any part missing.
    """
    results = Path(results)
    store = Store(results)
    ids = store.ids()
    failed = {run_id for run_id in ids if store.status(run_id).get("state") == "failed"}
    unreadable = _damaged_tables(results)
    plots, deviations = _plots(results), f"html/{DEVIATIONS}.html"
    content = {
        "profile": profile,
        "description": protocols.DESCRIPTIONS[profile],
        "diagram": Markup(diagram.svg()),
        "verdicts": _verdicts(results, profile, seeds),
        "notebooks": _notebook_entries(results, executed_now),
        "tables": [
            _table_entry(name, results, profile, failed) | {"plots": plots.pop(name, [])}
            for name in TABLES
            if name != SUMMARY and name not in unreadable and (results / "tables" / f"{name}.csv").exists()
        ],
        "unreadable": list(unreadable.values()),
        "signs": overview.SIGNS,
        "failed": [_failed_entry(store, run_id) for run_id in sorted(failed)],
        "summary_plots": plots.pop(SUMMARY, []),
        "other_plots": [plot for others in plots.values() for plot in others],
    }
    body, toc = _with_contents(_environment().get_template("index.html.j2").render(content))
    page = _page(
        title="Contrastive Deep Supervision: results",
        body=Markup(body),
        toc=toc,
        links=[{"href": "index.html", "text": "All results", "current": True}],
        neighbours=[],
        profile=profile,
        error=None,
        error_anchor=None,
        deviations=deviations if (results / deviations).exists() else None,
        provenance=provenance_rows(store, ids),
        code=False,
    )
    write_text(results / "index.html", page)
    return results / "index.html"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )


@cache
def _exporter(with_code: bool) -> HTMLExporter:
    return HTMLExporter(
        template_name="cells",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input=not with_code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def _with_contents(body: str, others: Sequence[str] = ()) -> tuple[str, list[dict[str, str]]]:
    """The body with a distinct id at every h2 and h3, no table that is wider than the page, and links where the text
    names one of the other reports; and the contents.

    What would run or load something is left out, whoever wrote it into a cell.
    """
    soup = BeautifulSoup(body, "html.parser")
    for active in soup.find_all(["script", "iframe", "object", "embed"]):
        active.decompose()
    for pilcrow in soup.find_all("a", class_="anchor-link"):  # nbconvert's; the contents do its work
        pilcrow.decompose()
    _let_tables_scroll(soup)
    for named in soup.find_all("code"):
        if named.get_text() in others and not named.find_parent(["a", "pre"]):
            named.wrap(soup.new_tag("a", attrs={"href": f"{quote(named.get_text())}.html"}))
    toc, used = [], set()
    for heading in soup.find_all(["h2", "h3"]):
        text = heading.get_text(strip=True)
        wanted = heading.get("id") or text.replace(" ", "-")
        candidates = chain([wanted], (f"{wanted}-{i}" for i in count(2)))
        heading["id"] = next(name for name in candidates if name not in used)
        used.add(heading["id"])
        toc.append({"level": heading.name[1], "id": heading["id"], "text": text})
    return str(soup), toc


def _let_tables_scroll(soup: BeautifulSoup) -> None:
    """Put tables of Markdown and pandas into a region of their own, as `html.scrolling` does for the study's."""
    for number, table in enumerate(soup.find_all("table"), 1):
        if not table.find_parent(class_="scroll"):
            above = table.find_previous(["h1", "h2", "h3"])
            label = f"table {number}" + (f": {above.get_text(strip=True)}" if above else "")
            table.wrap(soup.new_tag("div", attrs={"class": "scroll", "role": "region", "aria-label": label}))
            table.parent["tabindex"] = "0"


def _page(*, code: bool, **content: object) -> str:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    if code:
        light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
        # The page has its own background; only the colours of the tokens are wanted.
        style += f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        style += ".highlight { background: none; }\n"
    return _environment().get_template("page.html.j2").render(style=style, **content) + "\n"


def _title(notebook: nbformat.NotebookNode, name: str) -> str:
    """The text of the first `# heading`."""
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("# "):
                return line.removeprefix("# ").strip()
    return name


def _parameter(notebook: nbformat.NotebookNode, name: str) -> str | None:
    """What papermill was told for a parameter."""
    return notebook.metadata.get("papermill", {}).get("parameters", {}).get(name)


def _run_ids(name: str, store: Store) -> list[str]:
    """The runs behind a notebook, each once: those of its table, all of the folder for the summary, else none."""
    if name == SUMMARY:
        return store.ids()
    try:
        table = report.read_table(name, store.root)
    except RunError:
        return []  # it is not there, or damaged, which the index says
    return list(dict.fromkeys(run for runs in table["runs"] for run in runs.split()))


def _notebook_entries(results: Path, executed_now: Sequence[NotebookResult]) -> list[dict]:
    """Every executed notebook of the folder, in the order of reading."""
    found = _executed(results / "notebooks")
    found |= {result.name: (found.get(result.name, (None,))[0], result) for result in executed_now}
    return [
        {"name": name, "title": title or name, "linked": title is not None, "ok": result.ok, "error": result.error}
        | {"time": duration(result.seconds)}
        for name, (title, result) in ((name, found[name]) for name in in_order(found))
    ]


def _verdicts(results: Path, profile: str, seeds: Seeds) -> dict | None:
    """The summary as the folder holds it, and what is said beside it; None before it was written."""
    if not (results / "tables" / f"{SUMMARY}.csv").exists():
        return None
    frame = verdicts.read(results)
    page = f"html/{SUMMARY}.html"
    link = page if (results / page).exists() else None
    first, *others = wording.conclusion(frame)
    said = remarks.collect(profile, seeds, Store(results))
    return {
        "first": first,
        "short": bullets(said.short),
        "rule": "" if profile == "smoke" else wording.RULE,
        "beside": Markup("").join([*(grid.html() for grid in said.grids), bullets(said.images)]),
        "conclusion": bullets(others),
        "tested": summary.tested_html(frame),
        "counts": summary.counts_html(frame, link),
        "link": link,
    }


def _table_entry(name: str, results: Path, profile: str, failed: set[str]) -> dict:
    frame = report.read_table(name, results)
    table = TABLES[name]
    done, planned = printed.finished(frame)
    stuck = overview.failed_cells(table, profile, Store(results), failed)
    return {
        "name": name,
        "title": table.heading,
        "question": table.question,
        "conclusion": bullets(report.conclusion(frame)),
        "html": overview.short_table(frame, table),
        "state": overview.heat_map(frame, table, stuck),
        "report": (results / "html" / f"{name}.html").exists(),
        "done": done,
        "planned": planned,
        "begun": done > 0 or bool(stuck) or bool((frame["reason"] != "").any()),
    }


def _plots(results: Path) -> dict[str, list[dict]]:
    """The plots by the report that made them, whose name theirs begin with; those of no table under ""."""
    found: dict[str, list[dict]] = {}
    for path in sorted((results / "figures").glob("*.svg")):
        owner = next((name for name in (SUMMARY, *TABLES) if f"{path.stem}_".startswith(f"{name}_")), "")
        found.setdefault(owner, []).append(overview.figure(path))
    return found


def _failed_entry(store: Store, run_id: str) -> dict:
    error = (store.status(run_id).get("error") or "no message").splitlines()[0]
    return {"id": run_id, "label": store.spec(run_id).label, "error": error}
