"""The static site: every link between its pages leads somewhere, and pages are what the Markdown says."""

import importlib
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


@pytest.mark.parametrize("package", site.PACKAGES)
def test_every_public_name_is_on_a_page_that_loads_nothing_from_elsewhere(out, package):
    text = (out / "api" / f"{package.replace('.', '/')}.html").read_text(encoding="utf-8")
    page = BeautifulSoup(text, "html.parser")
    public = importlib.import_module(package).__all__
    here = [name for name in public if f"{package}.{name}" not in site.PACKAGES]
    assert {*here} <= {section["id"] for section in page.find_all("section") if section.get("id")}
    for element in page.find_all(["script", "img", "link", "iframe"]):
        assert not urlsplit(element.get("src") or element.get("href") or "").netloc, element


def test_the_study_is_not_on_the_librarys_pages(out):
    assert {path.stem for path in (out / "api").rglob("*.html")} == {
        "index",
        *(package.split(".")[-1] for package in site.PACKAGES),
    }


def test_tables_are_tables(out):
    """An address in a comment must not hold what separates the cells of a table."""
    home = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [len(row.find_all(["th", "td"])) for row in home.find("table").find_all("tr")] == [4] * 7
    assert home.title.text == home.h1.text and "|" not in home.main.text
