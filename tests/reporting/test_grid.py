"""A grid as Markdown and as HTML: every cell, escaped, and the notes."""

from cds_lib.reporting.grid import Grid

GRID = Grid("network", ("a | b", "c"), (("<x>", "1.00", "–"), ("y", "2.00", "3.00")), ("First.", "p < 0.05."))


def test_as_markdown():
    assert GRID.markdown() == (
        "| network | a \\| b | c |\n| --- | ---: | ---: |\n| <x> | 1.00 | – |\n| y | 2.00 | 3.00 |\n\nFirst. p < 0.05."
    )
    assert Grid("t", ("h",), (("a", "1"),)).markdown() == "| t | h |\n| --- | ---: |\n| a | 1 |"


def test_as_html():
    html = GRID.html()
    assert '<th scope="col">network</th><th scope="col">a | b</th>' in html
    assert '<th scope="row">&lt;x&gt;</th><td class="number">1.00</td><td class="number">–</td>' in html
    assert html.endswith("<figcaption><p>First.</p><p>p &lt; 0.05.</p></figcaption></figure>")
    assert "figcaption" not in Grid("t", ("h",), (("a", "1"),)).html()
