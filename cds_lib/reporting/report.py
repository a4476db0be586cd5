"""From finished runs to tables: a tidy frame, its files, and what it says in words. Reads the store, never trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from cds_lib.errors import RunError
from cds_lib.files import write_text
from cds_lib.reporting import formats, naming, printed
from cds_lib.study import analyses, statistics
from cds_lib.study.grids import HISTORY, METRICS, Cell
from cds_lib.study.measures import measure
from cds_lib.study.profiles import Seeds
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.study.table import Table

# The first sixteen are relied on from outside.
COLUMNS = (
    "table",
    "dataset",
    "model",
    "method",
    "setting",
    "metric",
    "paper",
    "mean",
    "std",
    "n",
    "ci_low",
    "ci_high",
    "baseline_delta",
    "paper_delta",
    "verdict",
    "profile",
    "n_planned",
    "best_mean",
    "best_std",
    "p_value",
    "runs",
    "reason",
    "n_pairs",
)
_OF_SIZES = ("test_ap_s_last", "test_ap_m_last", "test_ap_l_last")  # which a data set may have no object of
NUMBERS = ("paper", "mean", "std", "ci_low", "ci_high", "baseline_delta", "paper_delta")
NUMBERS += ("best_mean", "best_std", "p_value")


def tidy(table: Table, profile: str, seeds: Seeds, store: Store) -> pd.DataFrame:
    """One row per cell, in print order; a cell without a finished run is a row with n = 0.

    mean, std: over the seeds that have finished, at the cell's metric; best_mean, best_std: the same at the best epoch.
    baseline_delta, ci_low, ci_high, p_value: difference to the cell's reference, paired by seed, with its 95 %
    interval and sign-flip test; paper_delta: the paper's own difference between the two cells. All in the metric's
    unit; n_pairs: seeds that both have. n_planned: seeds asked for. runs: ids of the runs that it comes from, separated
    by spaces. reason: why finished runs have no value, "" if all have one.
    Raises RunError if a finished run lacks the metric.
    """
    cells = table.cells(profile, seeds)
    values = {(cell.key, cell.metric): by_seed(cell, cell.metric, store) for cell in cells}
    paper = {(cell.key, cell.metric): cell.paper for cell in cells}
    rows = []
    for cell in cells:
        ours = values[cell.key, cell.metric]
        best = statistics.summarise(list(_best_by_seed(cell, store).values()))
        row = {
            "table": table.name,
            "dataset": cell.dataset,
            "model": cell.model,
            "method": cell.method,
            "setting": cell.setting,
            "metric": cell.metric,
            "paper": cell.paper,
            "verdict": "" if ours else statistics.NOT_RUN,
            "profile": profile,
            "n_planned": len(cell.specs),
            "best_mean": best.mean,
            "best_std": best.std,
            "runs": " ".join(spec.id for spec in cell.specs if spec.seed in ours),
            "reason": analyses.reason(cell, store) if cell.source in analyses.ANALYSES else "",
            "n_pairs": 0,
        } | measured(ours)
        if cell.reference is not None:
            reference = (cell.reference, cell.metric)
            published = None if cell.paper is None or paper[reference] is None else cell.paper - paper[reference]
            row |= compared(ours, values[reference], published, profile)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(NUMBERS, "float64"))


def measured(ours: Mapping[int, float]) -> dict[str, float | int | None]:
    """The columns mean, std and n from one value a seed."""
    return asdict(statistics.summarise(list(ours.values())))


def compared(
    ours: Mapping[int, float], reference: Mapping[int, float], published: float | None, profile: str
) -> dict[str, object]:
    """The columns about the difference to a reference, paired by seed, and the verdict on the published difference."""
    difference = statistics.paired_difference(ours, reference)
    return {
        "baseline_delta": difference.delta,
        "ci_low": difference.ci_low,
        "ci_high": difference.ci_high,
        "p_value": difference.p_sign_flip,
        "n_pairs": difference.n,
        "paper_delta": None if published is None else round(published, 6),
        "verdict": statistics.verdict(difference, published, profile),
    }


def by_seed(cell: Cell, metric: str, store: Store) -> dict[int, float]:
    """Seed -> value of the metric, over the cell's finished runs; AP of a size without objects is not a value."""
    found = {}
    for spec in cell.specs:
        if store.is_done(spec.id):
            numbers = _numbers(cell, spec, store)
            if numbers is None or (metric in _OF_SIZES and metric not in numbers):
                continue
            if metric not in numbers and cell.source != METRICS:
                raise RunError(
                    f"Run {spec.id} ({spec.label}) has no {metric!r} in its {cell.source}: "
                    f"delete {store.run_dir(spec.id)} and run again."
                )
            found[spec.seed] = float(numbers[metric] if metric in numbers else store.metric(spec.id, metric))
    return found


def _numbers(cell: Cell, spec: RunSpec, store: Store) -> Mapping[str, float] | None:
    """Everything that was measured of a finished run where the cell reads; None if an analysis is missing."""
    if cell.source == METRICS:
        return store.metrics(spec.id)
    if cell.source == HISTORY:
        history = store.history(spec.id)
        return history.iloc[-1] if len(history) else {}
    found = analyses.read(store, spec.id, cell.source)
    return found and found["values"]


def _best_by_seed(cell: Cell, store: Store) -> dict[int, float]:
    """The best-epoch twin of the headline measures, by which the best epoch is chosen; nothing for the others."""
    headline = cell.metric in printed.BEST_EPOCH
    return by_seed(cell, cell.metric.replace("_last", "_best"), store) if headline else {}


def write_table(frame: pd.DataFrame, table: Table, results: Path) -> dict[str, Path]:
    """Write the files of a table of the study."""
    return write_files(
        table.name, frame, printed.markdown_table(frame, table), printed.latex_table(frame, table), results
    )


def write_files(name: str, frame: pd.DataFrame, markdown: str, latex: str, results: Path) -> dict[str, Path]:
    """Write RESULTS/tables/<name>.csv (numbers numeric), .md and .tex, each complete or not at all."""
    texts = {"csv": frame.to_csv(index=False, lineterminator="\n"), "md": markdown, "tex": latex}
    paths = {suffix: Path(results) / "tables" / f"{name}.{suffix}" for suffix in texts}
    for suffix, text in texts.items():
        write_text(paths[suffix], text)
    return paths


def read_table(table: str, results: Path, more: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The frame that `write_table` wrote, with the same column types; RunError if the file is damaged.

    `more`: columns behind the usual ones, with their types.
    """
    numbers = dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(("n", "n_planned", "n_pairs"), "int64")
    types = dict.fromkeys(COLUMNS, "str") | numbers | dict(more or {})
    texts = [name for name, kind in types.items() if kind == "str"]
    path = Path(results) / "tables" / f"{table}.csv"
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""], encoding="utf-8")
        if list(frame.columns) != list(types) or not len(frame):
            raise ValueError("it has other columns, or no rows")
    except FileNotFoundError:
        raise RunError(f"{path} is not there: write the report.") from None
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())
        raise RunError(f"{path} cannot be read ({first}): delete it and write the report again.") from error
    return frame.fillna(dict.fromkeys(texts, ""))


def state(frame: pd.DataFrame) -> list[str]:
    """How much has run and, in the smoke profile, that it means nothing."""
    done, planned = printed.finished(frame)
    sentences = [f"{done} of the {planned} runs that fill a cell are finished."]
    if frame["profile"].iloc[0] == "smoke":
        sentences.append("Smoke profile: the numbers show that the code runs and nothing else.")
    return sentences


def conclusion(frame: pd.DataFrame) -> list[str]:
    """What the verdicts add up to, a sentence per method, and how much has run, as plain text."""
    if frame["profile"].iloc[0] == "smoke":
        return state(frame)
    sentences: list[str] = []
    claims = frame[frame["paper_delta"].notna() & (frame["paper_delta"] != 0)]
    if len(claims) and 0 < claims["n_pairs"].max() < statistics.MIN_SEEDS:
        compared = f"{int((claims['n_pairs'] > 0).sum())} of {len(claims)} published differences"
        return [
            f"No verdict: the {compared} that were run have fewer than the {statistics.MIN_SEEDS} seeds that one "
            "needs. What one seed gives, chance can give.",
            *state(frame),
        ]
    untrained: list[str] = []
    for method, rows in claims.groupby("method", sort=False):
        name = naming.method_name(method)
        counts = rows["verdict"].value_counts()
        verdicts = (statistics.REPRODUCED, statistics.CONFIRMED, statistics.INCONCLUSIVE)
        verdicts += (statistics.CONTRADICTED, statistics.NOT_RUN)
        if counts.get(statistics.NOT_RUN) == len(rows):
            untrained.append(name)
            continue
        listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if verdict in counts)
        noun = "difference" if len(rows) == 1 else "differences"
        sentences.append(f"{name}: of {len(rows)} published {noun} to the reference, {listed}{_averages(rows, frame)}.")
    if untrained:
        sentences.append(f"Differences of which none was run: {'; '.join(untrained)}.")
    return [*sentences, *state(frame)]


def _averages(rows: pd.DataFrame, frame: pd.DataFrame) -> str:
    """A method's mean difference, ours and the paper's; of the first measure, and of no number of too few seeds."""
    measured = rows[(rows["metric"] == frame["metric"].iloc[0]) & (rows["n_pairs"] >= statistics.MIN_SEEDS)]
    if measured.empty:
        return ""
    ours, theirs = np.mean(measured["baseline_delta"]), np.mean(measured["paper_delta"])
    what = measure(rows["metric"].iloc[0])
    unit = what.unit.removeprefix("percentage ")
    places = [name for name in printed.group_columns(frame) if name != "metric"]
    (first, *others) = (naming.group_title(names) for names in measured[places].itertuples(index=False))
    over = f"on average over the {len(measured)} with enough seeds" if others else first
    return (
        f"; {over}: this study has {formats.signed(ours, what.decimals)} {unit} and the paper "
        f"{formats.signed(theirs, what.decimals)}"
    )
