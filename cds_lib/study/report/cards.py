"""The answers on the index: a question, what the committed miniature says, how sure that is (cards.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cds_lib.study.measures import measure
from cds_lib.study.report import formats


def read_cards() -> list[dict[str, Any]]:
    """question, answer, sure (how sure), page (the report that shows it) and evidence, in order."""
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def answer(card: dict[str, Any], comparisons: pd.DataFrame) -> str | None:
    """The card's answer with its numbers, or None where `comparisons` does not bear it out."""
    texts = []
    for evidence in card.get("evidence", ()):
        rows = comparisons[comparisons["side"] == evidence["side"]]
        for name, value in evidence["where"].items():
            rows = rows[rows[name].astype(str) == value]
        if len(rows) != evidence.get("rows", 1):
            return None
        if "rows" not in evidence:
            (row,) = (row for _, row in rows.iterrows())
            decimals = measure(row["metric"]).decimals - 1
            texts.append(formats.difference(row["difference"], row["low"], row["high"], decimals))
    return card["answer"].format(*texts)
