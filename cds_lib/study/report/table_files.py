"""The files of a table, RESULTS/tables/<name>: .csv with numbers to their last digit, .md and .tex for reading."""

from pathlib import Path

import pandas as pd

from cds_lib.study.errors import RunError
from cds_lib.study.files import once, write_text
from cds_lib.study.measures import measure
from cds_lib.study.plan import published
from cds_lib.study.plan.table import Table
from cds_lib.study.report import formats
from cds_lib.study.report.frame import CELL, COLUMNS, NUMBERS
from cds_lib.study.report.naming import named
from cds_lib.study.report.verdicts import MORE_COLUMNS
from cds_lib.study.tables import SUMMARY, TABLES

_TYPES = dict.fromkeys((*COLUMNS, *MORE_COLUMNS), "str")
_TYPES |= dict.fromkeys((*NUMBERS, "p_holm"), "float64")
_TYPES |= dict.fromkeys(("n", "n_planned", "n_pairs", "n_wanted"), "int64")
_LEFT = (*CELL, "table", "kind", "reference", "verdict", "why", "runs")  # text columns
# Characters that LaTeX's fonts lack.
_LATEX = str.maketrans({"−": "$-$", "≈": r"$\approx$", "×": r"$\times$", "±": r"$\pm$", "–": "--"})


def write_table(frame: pd.DataFrame, table: Table, results: Path) -> dict[str, Path]:
    """Write the three files of a tidy frame, each complete or not at all."""
    shown = printed(frame)
    notes = [table.describe(frame["profile"].iloc[0]), f"Published numbers: {table.source}. See docs/results.md."]
    text = "\n\n".join([f"# {table.heading}", _markdown(shown), *notes]) + "\n"
    texts = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": text.replace("<", "&lt;"),  # Markdown would take it for HTML
        "tex": _latex(shown.drop(columns=["runs", "why"], errors="ignore")),
    }
    paths = {suffix: Path(results) / "tables" / f"{table.name}.{suffix}" for suffix in texts}
    for suffix, text in texts.items():
        write_text(paths[suffix], text)
    return paths


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a tidy frame as text: columns that name its rows (network, method and what else varies), then numbers."""
    names = [name for name in ("claimed_in", "kind", *CELL, "reference") if name in frame]
    shown = named(frame)[[name for name in names if name in ("model", "method") or frame[name].nunique() > 1]]
    rows = [_cells(row) for row in frame.to_dict("records")]
    return shown.astype(str).rename(columns={"claimed_in": "table"}).join(pd.DataFrame(rows, index=frame.index))


def _cells(row: dict) -> dict[str, str]:
    decimals = measure(row["metric"]).decimals
    cells = {
        "published": formats.number(row["paper"], decimals),
        "mean ± std (n)": (row["reason"] if not row["n"] else "")
        or formats.mean_std_n(row["mean"], row["std"], row["n"], row["n_planned"], decimals),
        "best epoch": formats.number(row["best_mean"], decimals),
        "difference [95 % CI]": formats.difference(row["baseline_delta"], row["ci_low"], row["ci_high"], decimals),
        "pairs": f"{row['n_pairs']} of {row.get('n_wanted', row['n_planned'])}",
        "published difference": published_difference(row),
        "verdict": row["verdict"] or formats.EMPTY,
    }
    if "kind" in row:
        cells |= {name: formats.text(row[of], "{:.3f}") for name, of in (("p", "p_value"), ("Holm's p", "p_holm"))}
        cells |= {"why": row["why"]}
    return cells | {"runs": row["runs"] or formats.EMPTY}


def published_difference(row: dict) -> str:
    """Format the published difference, with `≈` and one decimal less if it was measured from a plot."""
    table = TABLES.get(row.get("claimed_in", row["table"]))
    decimals = measure(row["metric"]).decimals
    if table is None or pd.isna(row["paper_delta"]) or not any(map(published.is_approximate, table.published)):
        return formats.signed(row["paper_delta"], decimals)
    return f"≈ {formats.signed(row['paper_delta'], decimals - 1)}"


def _markdown(shown: pd.DataFrame) -> str:
    lines = [[*shown], ["---" if name in _LEFT else "---:" for name in shown], *shown.to_numpy()]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def _latex(shown: pd.DataFrame) -> str:
    sides = "".join("l" if name in _LEFT else "r" for name in shown)
    text = shown.to_latex(index=False, escape=True, longtable=True, column_format=sides)
    return "% needs \\usepackage{booktabs,longtable}\n" + text.translate(_LATEX)


def read_table(name: str, results: Path) -> pd.DataFrame:
    """Return the frame that `write_table` wrote, with the same column types; RunError if it is missing or damaged."""
    path = Path(results) / "tables" / f"{name}.csv"
    try:
        return _read(path)
    except FileNotFoundError:
        raise RunError(f"{path} is not there: write the report.") from None
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())
        raise RunError(f"{path} cannot be read ({first}): delete it and write the report again.") from error


@once
def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=_TYPES, keep_default_na=False, na_values=[""], encoding="utf-8")
    if list(frame.columns) != [*COLUMNS, *(MORE_COLUMNS if path.stem == SUMMARY else ())] or frame.empty:
        raise ValueError("it has other columns, or no rows")
    return frame.fillna({name: "" for name in frame if _TYPES[name] == "str"})


def read_tables(results: Path) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return name -> frame of the tables that have a file, and name -> error of the damaged ones."""
    found, damaged = {}, {}
    for name in TABLES:
        if (Path(results) / "tables" / f"{name}.csv").exists():
            try:
                found[name] = read_table(name, results)
            except RunError as error:
                damaged[name] = str(error)
    return found, damaged
