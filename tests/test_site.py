"""The static site: every link between its pages leads somewhere, and pages are what the Markdown says."""

import importlib.util
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
_spec = importlib.util.spec_from_file_location("site_script", ROOT / "scripts" / "site.py")
site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site.main(folder)
    return folder


def test_every_link_of_every_page_leads_to_a_file(out):
    pages = [path for path in out.rglob("*.html") if "results" not in path.relative_to(out).parts]
    assert {path.stem for path in pages} >= {path.stem for path in (ROOT / "docs").glob("*.md")}
    for page in [*pages, out / "results" / "mini" / "index.html"]:
        for link in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find_all(["a", "img"]):
            address = urlsplit(link.get("href") or link.get("src") or "")
            if address.scheme or not address.path:
                continue
            target = page.parent / unquote(address.path)
            assert target.is_file() and target.suffix != ".md", (page, link)


def test_tables_are_tables(out):
    """An address in a comment must not hold what separates the cells of a table."""
    home = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [len(row.find_all(["th", "td"])) for row in home.find("table").find_all("tr")] == [4] * 7
    assert home.title.text == home.h1.text and "|" not in home.main.text
