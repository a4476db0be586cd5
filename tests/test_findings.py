"""Every number that README and docs state as a finding is where they say it is, and says what they say it says.

A number has its address in a comment behind it, as in `2.6<!-- comparisons: question=accuracy; difference above -->`:
column `difference` of the one row of results/mini/tables/comparisons.csv with these values, at the printed
decimals. `above`, `below` or `open` is how its 95 % interval lies; `rows` counts the rows. An address without a column
checks the interval alone.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
ADDRESS = re.compile(r"([+−-]?[\d,]*\.?\d+|none|\w+)<!-- (\w+): ?([^;>]*); ([^>]+?) -->")
FOUND = [(page, *found) for page in PAGES for found in ADDRESS.findall((ROOT / page).read_text(encoding="utf-8"))]


def row_of(table: str, where: str) -> pd.DataFrame:
    frame = pd.read_csv(ROOT / "results" / "mini" / "tables" / f"{table}.csv")
    for name, value in re.findall(r"(\w+)=(.+?)(?= \w+=|\s*$)", where):
        frame = frame[frame[name].astype(str) == value]
    return frame


def side(row: pd.Series) -> str:
    low, high = (row["low"], row["high"]) if "low" in row else (row["ci_low"], row["ci_high"])
    return "above" if low > 0 else "below" if high < 0 else "open"


@pytest.mark.parametrize(
    ("page", "text", "table", "where", "what"), FOUND, ids=[f"{p} {t} {w}" for p, t, _, w, _ in FOUND]
)
def test_a_stated_number_is_where_its_address_says(page, text, table, where, what):
    rows = row_of(table, where)
    column, *sides = what.split()
    if column == "rows":
        assert len(rows) == (0 if text == "none" else int(text.replace(",", "")))
        return
    assert len(rows) == 1, f"{page}: {table}: {where} is the address of {len(rows)} rows"
    (row,) = (row for _, row in rows.iterrows())
    if column in ("above", "below", "open"):
        sides = [column]
    else:
        printed = text.replace("−", "-").replace(",", "")
        decimals = len(printed.partition(".")[2])
        assert f"{row[column]:.{decimals}f}" == f"{float(printed):.{decimals}f}"
    assert all(side(row) == said for said in sides)


def test_no_address_is_overlooked_and_every_finding_has_one():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert len(re.findall(r"<!-- \w+:", text)) == len(ADDRESS.findall(text)), page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    findings = readme.split("## What was found")[1].split("What limits this")[0]
    items = re.split(r"^\d\. ", findings, flags=re.M)[1:]
    assert len(items) >= 3 and all(ADDRESS.search(item) for item in items)
