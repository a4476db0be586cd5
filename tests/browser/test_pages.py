"""Every page of the report in a real browser: desktop, telephone, dark mode, print and keyboard."""

from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from run_folders import MINI as COMMITTED

pytestmark = pytest.mark.xdist_group("browser")

SHOW_CODE = ("00_start_here.code.html", "table1_cifar100.code.html")
DESK, TELEPHONE, PAPER = (1280, 900), (390, 844), (718, 1000)  # paper: A4 minus margins of 1 cm, at 96 dpi
MODES = {"light": ("screen", "light"), "dark": ("screen", "dark"), "print": ("print", "light")}

FACTS = """() => ({
    headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1])),
    silent: [...document.images].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 80)),
    broken: [...document.images].filter(i => i.loading !== 'lazy' && !i.naturalWidth).map(i => i.alt),
    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
})"""

SCROLLERS = """[...document.querySelectorAll('body *')].filter(e => {
    const style = getComputedStyle(e);
    return e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(style.overflowX)
        || e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(style.overflowY);
})"""


def show(page, size, mode="light"):
    media, scheme = MODES[mode]
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(media=media, color_scheme=scheme)


def overflow(page):
    """Return by how many pixels the page is wider than its window."""
    return page.evaluate("Math.max(0, document.scrollingElement.scrollWidth - window.innerWidth)")


@pytest.fixture(scope="module")
def paths(results):
    """Return the fresh pages, then the committed ones. Pages with code only add the code, so two of them are enough."""
    folders = (results, COMMITTED)
    found = [[f / "index.html", f / "runs.html", *sorted((f / "html").glob("*.html"))] for f in folders]
    assert all(len(pages) > 2 for pages in found)
    return [*found[0], *(path for path in found[1] if not path.name.endswith(".code.html") or path.name in SHOW_CODE)]


@pytest.fixture(scope="module")
def page(browser):
    return browser.new_page()


@pytest.fixture(scope="module")
def visited(page, paths):
    """Open each page once and return what was observed, by path."""
    facts = {}
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in paths:
        told.clear()
        asked.clear()
        show(page, DESK)
        page.goto(path.as_uri())
        facts[path] = page.evaluate(FACTS)
        facts[path]["background"] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        show(page, DESK, "dark")
        facts[path]["dark_background"] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        show(page, TELEPHONE)
        facts[path]["overflow"] = overflow(page)
        unreachable = f"{SCROLLERS}.filter(e => e.tabIndex < 0).map(e => e.outerHTML.slice(0, 80))"
        facts[path]["unreachable"] = page.evaluate(unreachable)
        show(page, PAPER, "print")
        facts[path]["print_overflow"] = overflow(page)
        facts[path] |= {"told": list(told), "asked": list(asked)}
    return facts


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("told", "something to say on the console"),
        ("overflow", "more width than a telephone, where tables scroll and not the page"),
        ("print_overflow", "more width than paper"),
        ("silent", "images without a description"),
        ("broken", "images that are not shown"),
        ("unreachable", "what scrolls and no key reaches"),
    ],
)
def test_no_page_has(visited, key, what):
    assert {path.name: facts[key] for path, facts in visited.items() if facts[key]} == {}, what


def test_nothing_is_loaded_but_the_page_and_the_figures_of_the_index(visited):
    for path, facts in visited.items():
        first, *others = [url for url in facts["asked"] if not url.startswith("data:")]
        figures = f"{path.parent.as_uri()}/figures/" if path.name == "index.html" else "none"
        assert first == path.as_uri() and all(url.startswith(figures) for url in others)


def test_headings_are_in_order(visited):
    for path, facts in visited.items():
        levels = facts["headings"]
        assert levels[0] == 1, path
        assert levels.count(1) == 1, path
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), (path, levels)


def test_every_link_leads_somewhere(visited):
    for path, facts in visited.items():
        assert len(set(facts["ids"])) == len(facts["ids"]), path
        for link in facts["links"]:
            address, anchor = urldefrag(link)
            if not address.startswith("file:"):
                continue
            target = Path(unquote(address.removeprefix("file://")))
            assert target.is_file(), (path, link)
            assert path.parents[path.parent.name == "html"] in target.parents, (path, link)
            if anchor:
                assert unquote(anchor) in visited[target]["ids"], (path, link)


def test_there_is_a_dark_page(visited):
    assert {facts["background"] for facts in visited.values()} == {"rgb(255, 255, 255)"}
    for facts in visited.values():
        assert max(map(int, facts["dark_background"].strip("rgb()").split(","))) < 64


@pytest.mark.parametrize("name", ["index", "html/failing.code", "html/table1_cifar100"])
def test_the_tab_key_reaches_what_scrolls_and_arrows_move_it(page, results, name):
    show(page, TELEPHONE)
    page.goto((results / f"{name}.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
    regions = page.evaluate(f"{SCROLLERS}.map((e, i) => e.dataset.region = String(i))")
    missing = set(regions)
    for _ in range(page.evaluate("document.querySelectorAll('a, summary, [tabindex]').length") + 1):
        page.keyboard.press("Tab")
        region = page.evaluate("document.activeElement.dataset.region ?? ''")
        if region in missing:
            missing.remove(region)
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            if page.evaluate("document.activeElement.scrollWidth > document.activeElement.clientWidth + 1"):
                page.keyboard.press("ArrowRight")
                page.wait_for_function("document.activeElement.scrollLeft > 0", timeout=5000)
    assert missing == set()


def test_axe_finds_nothing_serious_in_any_mode(page, results, site):
    """Check all rules on a telephone, where tables scroll, and the contrast rule in dark mode and in print."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    static = [site / f"{name}.html" for name in ("index", "docs/deviations", "docs/library")]
    fresh = [results / f"{name}.html" for name in ("index", "runs", "html/table1_cifar100", "html/failing.code")]
    committed = [COMMITTED / "html" / f"{name}.html" for name in ("00_start_here.code", "contrastive_methods")]
    found = {}
    for path in [*static, *fresh, *committed]:
        page.goto(path.as_uri())
        for mode in MODES:
            show(page, TELEPHONE if mode == "light" else DESK, mode)
            rules = {} if mode == "light" else {"runOnly": ["color-contrast"]}
            for violation in axe.run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                    found[path.parent.parent.name, path.name, mode, violation["id"]] = nodes
    assert found == {}
