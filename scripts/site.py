"""Build the repository as a static site: `python scripts/site.py OUT`.

README, docs and what they link to become pages at the places that they have in the repository, beside `results/mini`,
so that every link between them stays valid. `api/` documents the library's public names. Any web server can serve the
folder, including GitHub Pages. Needs the library and pdoc, but no network.
"""

import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from posixpath import normpath

import pdoc
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert.filters import markdown2html

from cds_lib.study.report.pages import whole_page, with_contents

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "results/mini"
PACKAGES = ["cds_lib", "cds_lib.augment", "cds_lib.losses", "cds_lib.methods", "cds_lib.models"]
SOURCES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/bench.md"]


def place_of(source: str) -> str:
    """Return where the page of a Markdown file lies; a README becomes the index of its folder."""
    return re.sub(r"README\.md$", "index.md", source).removesuffix(".md") + ".html"


def write_page(source: str, pages: dict[str, str], out: Path) -> set[str]:
    """Write the page of a Markdown file, and return the other files of the repository that it links to."""
    folder, linked = Path(source).parent, set()
    body = BeautifulSoup(markdown2html((ROOT / source).read_text(encoding="utf-8")), "html.parser")
    for link in body.find_all(["a", "img"]):
        name = "href" if link.name == "a" else "src"
        path, mark, fragment = link[name].partition("#")
        target = normpath((folder / path).as_posix())
        if not path or "://" in path or path.startswith("mailto:"):
            continue
        if target in pages:
            path = path.removesuffix(Path(path).name) + Path(pages[target]).name
        else:
            path = f"{path.rstrip('/')}/index.html" if (ROOT / target).is_dir() else path
            linked.add(target)
        link[name] = f"{path}{mark}{fragment}"
    write_body(body, pages[source], pages, out)
    return linked


def write_body(body: BeautifulSoup, place: str, pages: dict[str, str], out: Path) -> None:
    """Write the page, with links to all others. Code blocks scroll by themselves, with the keyboard as well."""
    for number, code in enumerate(body.find_all("pre"), 1):
        region = {"class": "code", "role": "region", "aria-label": f"code {number}", "tabindex": "0"}
        code.wrap(body.new_tag("div", attrs=region))
    title = body.h1.get_text().rstrip("¶") if body.h1 else Path(place).stem
    html, toc = with_contents(str(body))
    up = "../" * place.count("/")
    links = {"Home": "index.html", "Results": f"{RESULTS}/index.html", "API": "api/cds_lib.html"}
    links |= {
        Path(page).stem.replace("_", " ").capitalize(): page for name, page in pages.items() if name.startswith("docs/")
    }
    page = whole_page(
        title=title,
        body=Markup(html),
        toc=[entry for entry in toc if entry["level"] == "2"],
        links=[{"href": up + page, "text": text, "current": page == place} for text, page in links.items()],
        deviations=f"{up}docs/deviations.html",
    )
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    (out / place).write_text(page, encoding="utf-8")


def copy(target: str, out: Path, pages: dict[str, str]) -> None:
    """Copy a linked file, or a linked folder with a list of its contents."""
    if (ROOT / target).is_file():
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / target, out / target)
        return
    shutil.copytree(ROOT / target, out / target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    names = sorted(path.name for path in (out / target).iterdir() if path.name != "index.html")
    lines = "\n".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
    body = BeautifulSoup(f"<h1>{target}</h1><ul>{lines}</ul>", "html.parser")
    write_body(body, f"{target}/index.html", pages, out)


def write_api(out: Path) -> None:
    """Write a page for each package, from the docstrings of its public names."""
    for package in map(import_module, PACKAGES):
        for name in package.__all__:
            getattr(package, name)  # pdoc sees only loaded names, and these are loaded on first use
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(PACKAGES[0], output_directory=out)


def main(out: Path) -> None:
    sources = [*SOURCES, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    pages = {source: place_of(source) for source in sources}
    shutil.copytree(ROOT / RESULTS, out / RESULTS, dirs_exist_ok=True)
    linked = set().union(*(write_page(source, pages, out) for source in sources))
    for target in sorted(linked):
        if not (out / target).is_file():
            copy(target, out, pages)
    write_api(out / "api")
    (out / ".nojekyll").touch()  # GitHub Pages would leave out names with an underscore


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/site.py OUT")
    main(Path(sys.argv[1]))
