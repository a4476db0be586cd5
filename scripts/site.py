"""The repository as a static site: `python scripts/site.py OUT`.

README, docs and what they link to become pages at the places that they have in the repository, beside `results/mini`,
so every link between them stays as it is, and `api/` has the library's public names. Any web server can serve the
folder, GitHub Pages among them. Needs the library and pdoc; no network.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from posixpath import normpath

import pdoc
from nbconvert.filters import markdown2html

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "results/mini"
PACKAGES = ["cds_lib", "cds_lib.augment", "cds_lib.losses", "cds_lib.methods", "cds_lib.models"]
STYLE = ROOT / "cds_lib" / "study" / "report" / "templates" / "style.css"
SOURCES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/bench.md"]
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style} main img {{ max-width: 100%; height: auto; background: #ffffff; }}</style></head>
<body><header class="bar"><nav aria-label="site"><a href="{up}index.html">Home</a>
<a href="{up}results/mini/index.html">Results</a> <a href="{up}api/cds_lib.html">API</a>
{docs}</nav></header><div class="layout"><main>{body}</main></div></body></html>
"""


def place_of(source: str) -> str:
    """Where the page of a Markdown file lies: a README is its folder's index."""
    return re.sub(r"README\.md$", "index.md", source).removesuffix(".md") + ".html"


def write_page(source: str, pages: dict[str, str], out: Path) -> set[str]:
    """Write the page of a Markdown file; returns the other files of the repository that it links to."""
    folder, linked = Path(source).parent, set()

    def follow(found: re.Match) -> str:
        path, mark, fragment = found[2].partition("#")
        target = normpath((folder / path).as_posix())
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        if target in pages:
            path = path.removesuffix(Path(path).name) + Path(pages[target]).name
        elif (ROOT / target).is_dir():
            path = f"{path.rstrip('/')}/index.html"
            linked.add(target)
        else:
            linked.add(target)
        return f'{found[1]}="{path}{mark}{fragment}"'

    text = (ROOT / source).read_text(encoding="utf-8")
    up = "../" * (len(Path(source).parts) - 1)
    docs = [
        f'<a href="{up}{place}">{Path(place).stem}</a>' for name, place in pages.items() if name.startswith("docs/")
    ]
    html = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(text))
    body = re.sub(r'\b(href|src)="([^"]*)"', follow, html)
    title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), Path(source).stem)
    path = out / pages[source]
    path.parent.mkdir(parents=True, exist_ok=True)
    style = STYLE.read_text(encoding="utf-8")
    path.write_text(PAGE.format(title=title, style=style, up=up, docs="\n".join(docs), body=body), encoding="utf-8")
    return linked


def copy(target: str, out: Path) -> None:
    """A linked file, or a folder with a list of what it holds."""
    if (ROOT / target).is_file():
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / target, out / target)
        return
    shutil.copytree(ROOT / target, out / target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    names = sorted(path.name for path in (out / target).iterdir() if path.name != "index.html")
    lines = "\n".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
    up = "../" * len(Path(target).parts)
    body = f"<h1>{target}</h1><ul>{lines}</ul>"
    page = PAGE.format(title=target, style=STYLE.read_text(encoding="utf-8"), up=up, docs="", body=body)
    (out / target / "index.html").write_text(page, encoding="utf-8")


def write_api(out: Path) -> None:
    """A page of each package, from the docstrings of its public names."""
    for package in map(import_module, PACKAGES):
        for name in package.__all__:
            getattr(package, name)  # pdoc sees what is loaded, and these names are loaded on first use
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(PACKAGES[0], output_directory=out)


def main(out: Path) -> None:
    sources = [*SOURCES, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    pages = {source: place_of(source) for source in sources}
    shutil.copytree(ROOT / RESULTS, out / RESULTS, dirs_exist_ok=True)
    linked = set().union(*(write_page(source, pages, out) for source in sources))
    for target in sorted(linked):
        if not (out / target).is_file():
            copy(target, out)
    write_api(out / "api")
    (out / ".nojekyll").touch()  # GitHub Pages would leave out names with an underscore


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/site.py OUT")
    main(Path(sys.argv[1]))
