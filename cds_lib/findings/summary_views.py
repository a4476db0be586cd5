"""What the notebook `summary` shows: the conclusion, the counts, every claim and the plot, each written to RESULTS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML, SVG

from cds_lib.findings import remarks
from cds_lib.reporting import figures, html, summary, verdicts, views, wording

if TYPE_CHECKING:
    from cds_lib.session import Session


def frame(study: Session) -> pd.DataFrame:
    """Every claim; written to RESULTS/tables/summary.csv, .md and .tex."""
    found = verdicts.tidy(study.profile, study.seeds, study.store)
    summary.write(found, study.store.root, remarks.collect(study.profile, study.seeds, study.store).short)
    return found


def conclusion(found: pd.DataFrame) -> HTML:
    """What was confirmed, what not, and what is unknown, in words."""
    return HTML(html.bullets(wording.conclusion(found)))


def beside(study: Session) -> HTML:
    """The answer in short, then the controls, the networks of Table 1, and other images."""
    found = remarks.collect(study.profile, study.seeds, study.store)
    grids = [grid.html() for grid in found.grids]
    return HTML("".join([html.bullets(found.short), *grids, html.bullets(found.images)]))


def counts(found: pd.DataFrame) -> HTML:
    """How many claims of each table got which verdict."""
    return HTML(summary.counts_html(found))


def every_claim(found: pd.DataFrame) -> HTML:
    """A foldable table a group of claims."""
    return HTML(summary.claims_html(found))


def differences(study: Session, found: pd.DataFrame) -> SVG:
    """Our differences beside the published ones; written to RESULTS/figures/summary.svg."""
    rows = verdicts.shown(found)
    return views.save_and_show(study, figures.claims(rows), verdicts.described(rows))


def notes(found: pd.DataFrame) -> HTML:
    """The rule, the statistics and what they cover."""
    return HTML(html.bullets(wording.notes(found)))
