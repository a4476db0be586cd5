"""Executed notebooks as HTML pages that need no other file, no network and no script.

A notebook becomes two pages, without and with its code. They share `templates/page.html.j2` with the index.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from cds_lib.errors import UsageError
from cds_lib.study.files import write_text
from cds_lib.study.report import notebooks
from cds_lib.study.report.naming import name_of
from cds_lib.study.report.notebooks import NotebookResult
from cds_lib.study.report.table_files import read_tables
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES
from cds_lib.study.text import counted, duration

DEVIATIONS = "deviations"  # the report that every page refers to
TEMPLATES = Path(__file__).with_name("templates")
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)


def render_notebook(executed: Path, html: Path, titles: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Write html/<name>.html (without code) and html/<name>.code.html from a notebook that `notebooks.execute` wrote.

    A failed notebook is rendered too, with a banner. `html` is RESULTS/html; the footer is about the runs of RESULTS.
    `titles`: titles of all reports by name, in reading order, for the links between reports.
    """
    titles = titles or {}
    notebook, result = notebooks.stored(executed)
    store = Store(html.parent)
    provenance = provenance_rows(store, _run_ids(result.name, store))
    paths = {"html": html / f"{result.name}.html", "code": html / f"{result.name}.code.html"}
    for kind, path in paths.items():
        with_code = kind == "code"
        body, toc = with_contents(
            _exporter(with_code).from_notebook_node(notebook)[0], [name for name in titles if name != result.name]
        )
        anchor = f"cell-{result.cell}"
        text = whole_page(
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
            profile=notebook.metadata.get("papermill", {}).get("parameters", {}).get("profile"),
            error=result.error,
            error_anchor=anchor if f'id="{anchor}"' in body else None,
            deviations=f"{DEVIATIONS}.html" if DEVIATIONS in titles else None,
            provenance=provenance,
            code=with_code,
        )
        write_text(path, text)
    return paths


def render_notebooks(results: Path, names: Iterable[str]) -> None:
    """Write the pages of these notebooks. If the set of reports has changed, write all: reports link to each other."""
    folder, html = Path(results) / "notebooks", Path(results) / "html"
    titles = {name: title for name, (title, _) in executed_notebooks(folder).items() if title is not None}
    known = {path.stem for path in html.glob("*.html") if not path.stem.endswith(".code")}
    for name in names if known == set(titles) else titles:
        if name in titles:
            render_notebook(folder / f"{name}.ipynb", html, titles)


def executed_notebooks(folder: Path) -> dict[str, tuple[str | None, NotebookResult]]:
    """Return title and result of every executed notebook, in reading order; for a damaged one, None and the error."""
    found: dict[str, tuple[str | None, NotebookResult]] = {}
    for name in in_order(path.stem for path in folder.glob("*.ipynb")):
        try:
            notebook, result = notebooks.stored(folder / f"{name}.ipynb")
            found[name] = (_title(notebook, name), result)
        except UsageError as error:
            found[name] = (None, NotebookResult(name, str(error)))
    return found


def damaged(results: Path) -> dict[str, str]:
    """Return name -> error, for the tables and executed notebooks in the folder that cannot be read."""
    executed = executed_notebooks(Path(results) / "notebooks")
    return read_tables(results)[1] | {name: ended.error for name, (title, ended) in executed.items() if title is None}


def in_order(names: Iterable[str]) -> list[str]:
    """Return the reports in reading order: the summary, the tables in their order, then reports without a table."""
    found = set(names)
    tables = [name for name in (SUMMARY, *TABLES) if name in found]
    return list(dict.fromkeys([*tables, *sorted(found)]))


def _neighbours(name: str, titles: Mapping[str, str], suffix: str) -> list[dict[str, str]]:
    """Return the links to the reports before and after this one."""
    around = zip(["", "", *titles], ["", *titles], [*titles, ""], strict=False)
    previous, following = next(((before, after) for before, one, after in around if one == name), ("", ""))
    return [
        {"label": label, "href": f"{quote(other)}{suffix}", "title": titles[other], "rel": label[:4].lower()}
        for label, other in (("Previous", previous), ("Next", following))
        if other
    ]


@cache
def _exporter(with_code: bool) -> HTMLExporter:
    return HTMLExporter(
        template_name="cells",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input=not with_code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def with_contents(body: str, others: Sequence[str] = ()) -> tuple[str, list[dict[str, str]]]:
    """Return the body and its table of contents: the h2 and h3, each with a unique id. In the body, tables wider than
    the page scroll, numbers link to their runs, and names of other reports are links. Scripts and embedded objects are
    removed.
    """
    soup = BeautifulSoup(body, "html.parser")
    for active in soup.find_all(["script", "iframe", "object", "embed"]):
        active.decompose()
    for pilcrow in soup.find_all("a", class_="anchor-link"):  # from nbconvert; the table of contents links to headings
        pilcrow.decompose()
    _let_tables_scroll(soup)
    for number in soup.find_all(
        "td", title=True
    ):  # `show` puts the run ids into the title; these runs are adjacent in runs.html
        first = number["title"].removeprefix("runs ").split()[0]
        number.string.wrap(soup.new_tag("a", attrs={"href": f"../runs.html#{first}"}))
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
    """Put the tables of Markdown and pandas into a region that scrolls, as `show` does with its own tables."""
    for number, table in enumerate(soup.find_all("table"), 1):
        if not table.find_parent(class_="scroll"):
            above = table.find_previous(["h1", "h2", "h3"])
            label = f"table {number}" + (f": {above.get_text(strip=True)}" if above else "")
            table.wrap(soup.new_tag("div", attrs={"class": "scroll", "role": "region", "aria-label": label}))
            table.parent["tabindex"] = "0"
        if any(len(cell.get_text()) > 60 for cell in table.find_all("td")):
            table.parent["class"] = "scroll text"


def whole_page(*, code: bool = False, **content: object) -> str:
    """Render `templates/page.html.j2`; optional parts that are not given are left out."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    content = dict.fromkeys(("neighbours", "profile", "error", "error_anchor", "provenance")) | content
    if code:
        light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
        # Only the colours of the tokens: the page has its own background.
        style += f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        style += ".highlight { background: none; }\n"
    return ENVIRONMENT.get_template("page.html.j2").render(style=style, **content) + "\n"


def _title(notebook: nbformat.NotebookNode, name: str) -> str:
    """Return the text of the first `# heading`, or `name` if there is none."""
    lines = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), name)


def _run_ids(name: str, store: Store) -> list[str]:
    """Return the runs behind a notebook, each once: those of its table, all of the folder for the summary, or none."""
    if name == SUMMARY:
        return store.ids()
    table = read_tables(store.root)[0].get(name, pd.DataFrame({"runs": []}))
    return list(dict.fromkeys(" ".join(table["runs"]).split()))


def provenance_rows(store: Store, run_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Return (label, value) rows about the finished runs among `run_ids`: code, versions, machine, data, dates, cost.

    Values that differ between runs are all listed, except versions of the code, which are counted.
    """
    finished = [run_id for run_id in run_ids if store.is_done(run_id)]
    if not finished:
        return []
    statuses = [store.status(run_id) for run_id in finished]
    dates = sorted(status[key] for status in statuses for key in ("started", "finished") if status.get(key))
    seconds = sum(store.metric(run_id, "seconds") for run_id in finished)
    versions = [", ".join(map(" ".join, status.get("versions", {}).items())) for status in statuses]
    data = [
        f"{name_of(store.spec(run_id).dataset)}: {read['note']} ({read['train']} training and {read['test']} "
        f"test images, sha256 {read['sha256'][:12]})"
        for run_id, status in zip(finished, statuses, strict=True)
        if (read := status.get("data"))  # what was read, whether its checksum is the published one, how many images
    ]
    processes = _distinct(str(status.get("processes", 1)) for status in statuses)
    rows = [
        ("runs", f"{len(finished)} finished, {duration(seconds)} of training in total"),
        ("code", _code([status["code"] for status in statuses if status.get("code")])),
        ("versions", _distinct(versions)),
        ("machine", _distinct(f"{status.get('machine', '')} {status.get('device', '')}" for status in statuses)),
        ("processes of a run", processes if processes != "1" else ""),
        ("data", _distinct(data)),
        ("trained", " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""),
    ]
    return [(label, value) for label, value in rows if value]


def _code(versions: list[str]) -> str:
    """Return the version of the code, or the number of versions; "+dirty" marks runs with uncommitted changes."""
    dirty = sum(version.endswith("+dirty") for version in versions)
    found = dict.fromkeys(versions)
    text = "".join(found) if len(found) < 2 else f"{len(found)} versions"
    return text + (f"; {counted(dirty, 'run')} +dirty" if dirty else "")


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value.strip() for value in values if value.strip()))
