"""The static site: every link between its pages has a target, and the pages match the Markdown."""

import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["cds_lib", "cds_lib.augment", "cds_lib.losses", "cds_lib.methods", "cds_lib.models"]

pytestmark = pytest.mark.xdist_group("browser")  # tests in this group also open the site


def test_every_link_of_every_page_leads_to_a_file(site):
    pages = [path for path in site.rglob("*.html") if "results" not in path.relative_to(site).parts]
    assert {path.stem for path in pages} >= {path.stem for path in (ROOT / "docs").glob("*.md")}
    for page in [*pages, site / "results" / "mini" / "index.html"]:
        for link in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find_all(["a", "img"]):
            address = urlsplit(link.get("href") or link.get("src") or "")
            if address.scheme or not address.path:
                continue
            target = page.parent / unquote(address.path)
            assert target.is_file() and target.suffix != ".md", (page, link)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_a_page_that_loads_nothing_from_elsewhere(site, package):
    text = (site / "api" / f"{package.replace('.', '/')}.html").read_text(encoding="utf-8")
    page = BeautifulSoup(text, "html.parser")
    public = importlib.import_module(package).__all__
    here = [name for name in public if f"{package}.{name}" not in PACKAGES]
    assert {*here} <= {section["id"] for section in page.find_all("section") if section.get("id")}
    for element in page.find_all(["script", "img", "link", "iframe"]):
        assert not urlsplit(element.get("src") or element.get("href") or "").netloc, element


def test_the_study_is_not_on_the_librarys_pages(site):
    names = {"index", *(package.split(".")[-1] for package in PACKAGES)}
    assert {path.stem for path in (site / "api").rglob("*.html")} == names


def test_tables_are_tables(site):
    """An address in a comment must not contain the separator of table cells."""
    home = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [len(row.find_all(["th", "td"])) for row in home.find("table").find_all("tr")] == [4] * 7
    assert home.title.text == home.h1.text and "|" not in home.main.text
