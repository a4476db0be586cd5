"""RESULTS/index.html, the start page (answers, how far they reach, verdicts, every report), and RESULTS/runs.html."""

import math
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from cds_lib.study import statistics
from cds_lib.study.errors import RunError
from cds_lib.study.files import write_json, write_text
from cds_lib.study.measures import measure, short_name
from cds_lib.study.plan import protocols
from cds_lib.study.report import formats, pages
from cds_lib.study.report.comparisons import CONTROL
from cds_lib.study.report.frame import CELL, PLACE
from cds_lib.study.report.naming import group_title, name_of
from cds_lib.study.report.notebooks import NotebookResult
from cds_lib.study.report.table_files import published_difference, read_tables
from cds_lib.study.report.verdicts import VERDICTS, with_seeds_enough
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES

NOT_TESTED, DAMAGED = "not tested", "damaged"
_OTHERWISE = "The runs here are missing or do not support the committed answer: see the report."
HEADLINES = ("test_top1_last", "test_ap_last")
_FILES = ("history.csv", "metrics.json", "status.json")
# A sign for each verdict: colour alone must not carry the meaning.
_SIGNS = dict(zip(VERDICTS, "✔↗✘?○~", strict=True))
_SAME = ["method", "metric", "dataset", "model", "setting"]  # what a claim and its control share
_SIDES = {"above": "above it", "below": "below it", "open": "indistinguishable"}


def write_index(results: Path, profile: str, executed_now: Sequence[NotebookResult] = ()) -> Path:
    """Write index.html and runs.html from what the folder holds. `executed_now`: results of notebooks just executed.

    Works at any time, with any part missing.
    """
    results = Path(results)
    store = Store(results)
    # Runs that differ only in the seed are adjacent.
    runs = sorted(
        (_run(store, run_id) for run_id in store.ids()), key=lambda run: (run["place"], run["spec"], run["seed"])
    )
    ids = [run["id"] for run in runs if run["state"] != DAMAGED]
    compared = _comparisons(results)
    tables, unreadable = read_tables(results)
    figures = [_figure(path) for path in sorted((results / "figures").glob("*.svg"))]
    content = {
        "headline": borne_out(results, profile),
        "article": (results / "article.pdf").exists(),
        "key_figure": next((figure for figure in figures if figure["name"] == "key"), None),
        "cards": [] if compared is None or profile == "smoke" else _cards(compared, results),
        "description": protocols.DESCRIPTIONS[profile],
        "diagram": Markup((pages.TEMPLATES / "diagram.svg").read_text(encoding="utf-8")),
        "verdicts": _verdicts(tables[SUMMARY], compared, results) if SUMMARY in tables else None,
        "notebooks": _reports(results, executed_now, tables),
        "unreadable": list(unreadable.values()),
        "figures": [figure for figure in figures if figure["name"] != "key"],
        "failed": [run for run in runs if run["state"] in ("failed", DAMAGED)],
    }
    _write_page(results, "index", "Contrastive Deep Supervision: results", content, profile, ids)
    _write_page(results, "runs", "Every run", {"runs": runs, "rows": _rows(tables, results)}, profile, ids)
    return results / "index.html"


def borne_out(results: Path, profile: str) -> bool:
    """Return whether the tables of this folder confirm what people wrote about the miniature."""
    compared = _comparisons(results)
    return profile == "mini" and compared is not None and all(answer(card, compared) for card in read_cards())


def read_cards() -> list[dict[str, Any]]:
    """Return the answers of cards.yaml: question, answer, sure (how sure), page (the report with it) and evidence."""
    return yaml.safe_load(Path(__file__).with_name("cards.yaml").read_text(encoding="utf-8"))


def answer(card: dict[str, Any], comparisons: pd.DataFrame) -> str | None:
    """Return the card's answer with its numbers, or None if `comparisons` does not confirm it."""
    texts = []
    for evidence in card.get("evidence", ()):
        where = pd.Series(evidence["where"] | {"side": evidence["side"]})
        rows = comparisons[(comparisons[where.index].astype(str) == where).all(axis=1)]
        if len(rows) != evidence.get("rows", 1):
            return None
        if "rows" not in evidence:
            row = rows.iloc[0]
            decimals = measure(row["metric"]).decimals - 1
            texts.append(formats.difference(row["difference"], row["low"], row["high"], decimals))
    return card["answer"].format(*texts)


def _write_page(results: Path, name: str, title: str, content: dict, profile: str, ids: Sequence[str]) -> None:
    body, toc = pages.with_contents(pages.ENVIRONMENT.get_template(f"{name}.html.j2").render(content))
    deviations = f"html/{pages.DEVIATIONS}.html"
    ways = {"index": "All results", "runs": "Every run"}
    text = pages.whole_page(
        title=title,
        body=Markup(body),
        toc=[entry for entry in toc if entry["level"] == "2"],
        links=[{"href": f"{page}.html", "text": text, "current": page == name} for page, text in ways.items()],
        profile=profile,
        deviations=deviations if (results / deviations).exists() else None,
        provenance=pages.provenance_rows(Store(results), ids) if name == "index" else [],
    )
    write_text(results / f"{name}.html", text)


def _comparisons(results: Path) -> pd.DataFrame | None:
    path = results / "tables" / "comparisons.csv"
    if not path.exists():
        return None
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"above": "Int64"})


def _cards(compared: pd.DataFrame, results: Path) -> list[dict]:
    """Return the cards as they are shown, without the link if the report has no page."""
    found = []
    for card in read_cards():
        said = answer(card, compared)
        page = card["page"] if (results / "html" / f"{card['page']}.html").exists() else ""
        found.append({**card, "page": page, "answer": said or _OTHERWISE, "sure": card["sure"] if said else ""})
    return found


def _verdicts(frame: pd.DataFrame, compared: pd.DataFrame | None, results: Path) -> dict:
    """Return the counts of verdicts by table, and the claims with enough seeds."""
    few = (frame["n_pairs"] < statistics.MIN_SEEDS) & (frame["verdict"] == statistics.INCONCLUSIVE)
    said = frame["verdict"].mask(few, NOT_TESTED)
    columns = [name for name in (*VERDICTS[:4], NOT_TESTED, *VERDICTS[4:]) if (said == name).any()]
    counts = pd.crosstab(frame["claimed_in"], said)
    counts = counts.reindex(frame["claimed_in"].unique())[columns]
    rows = [{"title": TABLES[name].title, "numbers": list(row)} for name, row in counts.iterrows()]
    sides = {}
    if compared is not None:
        controls = compared[compared["reference"].isin([CONTROL, "baseline_matched"])].drop_duplicates(_SAME)
        sides = controls.set_index(_SAME)["side"].to_dict()
    return {
        "columns": columns,
        "counts": rows,
        "tested": [_claim(row, sides) for row in with_seeds_enough(frame).to_dict("records")],
        "page": (results / "html" / f"{SUMMARY}.html").exists(),
    }


def _claim(row: dict, sides: dict[tuple, str]) -> dict[str, str]:
    """Return the texts of a tested claim. sides: on which side of its control the method lies. The control is the
    baseline of two views (ResNet-18 on CIFAR-100) or of as many steps (few labels)."""
    low, high = row["ci_low"], row["ci_high"]
    found = statistics.Difference(row["baseline_delta"], low, high, row["p_value"], row["n_pairs"])
    return {
        "claim": f"{name_of(row['method'])} − {name_of(row['reference'])}",
        "place": group_title([row["dataset"], row["model"], row["setting"], short_name(row["metric"])]),
        "published": published_difference(row),
        "ours": formats.difference(row["baseline_delta"], low, high, measure(row["metric"]).decimals),
        "verdict": f"{_SIGNS[row['verdict']]} {row['verdict']}",
        "kind": row["verdict"].replace(" ", "-"),
        "run": row["runs"].split()[0],
        "size": statistics.size(found, row["paper_delta"]),
        "control": _SIDES.get(sides.get(tuple(row[name] for name in _SAME)), formats.EMPTY),
    }


def _reports(results: Path, executed_now: Sequence[NotebookResult], tables: dict[str, pd.DataFrame]) -> list[dict]:
    """Return every executed notebook of the folder, in reading order."""
    found = pages.executed_notebooks(results / "notebooks")
    found |= {result.name: (found.get(result.name, (None,))[0], result) for result in executed_now}
    entries = []
    for name in pages.in_order(found):
        title, result = found[name]
        runs = tables[name].drop_duplicates([*PLACE, "method"]) if name in tables and name != SUMMARY else None
        entries.append(
            {
                "name": name,
                "title": title or name,
                "question": TABLES[name].question if name in TABLES else "",
                "linked": title is not None,
                "ok": result.ok,
                "error": result.error,
                "table": name in tables,
                "runs": "" if runs is None else f"{runs['n'].sum()} of {runs['n_planned'].sum()}",
            }
        )
    return entries


def _figure(path: Path) -> dict[str, str | int]:
    """Return a figure's name, title (for screen readers) and size in pixels, so that a browser reserves its space."""
    text = path.read_bytes().decode(errors="replace")
    size = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', text)
    width, height = (round(float(points) * 96 / 72) for points in size.groups()) if size else (0, 0)
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.DOTALL)
    alt = unescape(title.group(1)).strip() if title else path.stem.replace("_", " ")
    return {"name": path.stem, "alt": alt, "width": width, "height": height}


def _run(store: Store, run_id: str) -> dict[str, object]:
    """Return what runs.html shows of a run: spec, result, curve and origin; for a damaged run, the error."""
    try:
        spec, status = store.spec(run_id), store.status(run_id)
        metrics, epochs = (store.metrics(run_id), store.epochs(run_id)) if store.is_done(run_id) else ({}, [])
    except RunError as error:
        names = ("place", "label", "seed", "result", "curve", "spec", "code", "data", "finished", "versions", "files")
        return {"id": run_id, **dict.fromkeys(names, ""), "state": DAMAGED, "error": str(error)}
    said = {name: value for name, value in spec.to_dict().items() if value is not None and name != "seed"}
    said["budget"] = {name: value for name, value in said["budget"].items() if value is not None}
    return {
        "id": run_id,
        "place": group_title([spec.dataset, spec.model]),
        "label": spec.label,
        "seed": str(spec.seed),
        "files": [name for name in _FILES if (store.run_dir(run_id) / name).exists()],
        "state": status.get("state", "unknown"),
        "error": (status.get("error") or "no message").splitlines()[0],
        "result": next((formats.number(metrics[name]) for name in HEADLINES if name in metrics), ""),
        "curve": _curve([epoch["train_loss"] for epoch in epochs if "train_loss" in epoch]),
        "spec": yaml.safe_dump(said, sort_keys=False, default_flow_style=None, width=100),
        "code": status.get("code", ""),
        "data": status.get("data", {}).get("sha256", "")[:12],
        "finished": status.get("finished", "")[:10],
        "versions": ", ".join(f"{name} {version}" for name, version in status.get("versions", {}).items()),
    }


def _rows(tables: dict[str, pd.DataFrame], results: Path) -> dict[str, dict[str, str]]:
    """Return run id -> report -> the row of its table that uses the run, for the reports that have a page."""
    found: dict[str, dict[str, str]] = {}
    for name, frame in tables.items():
        if name != SUMMARY and (results / "html" / f"{name}.html").exists():
            for row in frame.to_dict("records"):
                for run in row["runs"].split():
                    found.setdefault(run, {})[name] = f"{TABLES[name].title}, {name_of(row['method'])}"
    return found


def _curve(losses: Sequence[float]) -> str:
    """Return points of a polyline, 120 by 24, of the training loss, scaled to its largest and smallest finite value."""
    losses = [loss for loss in losses if math.isfinite(loss)]
    low, high = min(losses, default=0), max(losses, default=0)
    scale = 22 / (high - low) if high > low else 0
    step = 120 / max(len(losses) - 1, 1)
    return " ".join(f"{i * step:.0f},{23 - (loss - low) * scale:.0f}" for i, loss in enumerate(losses))


def write_provenance(results: Path) -> None:
    """Write RESULTS/provenance.json: table -> "dataset/model/method/setting/metric" of a cell -> ids of its runs."""
    found = {
        name: {"/".join(row[key] for key in CELL): row["runs"].split() for row in frame.to_dict("records") if row["n"]}
        for name, frame in read_tables(results)[0].items()
    }
    write_json(results / "provenance.json", found)
