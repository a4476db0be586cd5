"""How claims and verdicts are put into words: the one place for sentences that the summary, index and README share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cds_lib.study import formats, naming, statistics
from cds_lib.study.catalogue import DATASETS
from cds_lib.study.measures import measure, short_name
from cds_lib.study.statistics import CONFIRMED, CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPRODUCED, SMOKE
from cds_lib.study.tables import official
from cds_lib.study.text import counted, listed

# In the order of a report. Each has a sign of its own, so that no meaning hangs on a colour.
VERDICTS = (REPRODUCED, CONFIRMED, CONTRADICTED, INCONCLUSIVE, NOT_RUN, SMOKE)
SIGNS = {REPRODUCED: "✔", CONFIRMED: "↗", CONTRADICTED: "✘", INCONCLUSIVE: "?", NOT_RUN: "○", SMOKE: "~"}
MEANINGS = {
    REPRODUCED: "in the paper profile (the released protocol, this study's own where none was released), the 95 % "
    "interval excludes 0 on the published side and reaches the published difference or lies beyond it",
    CONFIRMED: "the 95 % interval of our difference excludes 0, on the published side",
    CONTRADICTED: "the 95 % interval of our difference excludes 0, on the other side",
    INCONCLUSIVE: f"the interval contains 0, or there are fewer than {statistics.MIN_SEEDS} seeds",
    NOT_RUN: "no seed has every run that the comparison needs",
    SMOKE: "synthetic data and a few steps: the number means nothing",
}
# Why a claim was not tested, as its column `cause` says: how the conclusion counts it. "" of a claim that was tested.
FAILED, UNTOUCHED, UNTRAINED, HALF, UNMEASURED = "failed", "no images", "not trained", "one side", "not analysed"
_CAUSES = {
    UNTRAINED: "the methods were not trained yet",
    UNTOUCHED: "nothing was trained on {datasets} (not asked for, or no images at hand)",
    FAILED: "a run failed",
    UNMEASURED: "the runs were not analysed (that needs their weights)",
    HALF: "only one of the two methods, or a part of the average, was trained",
}
KINDS = {
    "baseline": "against the baseline",
    "rival": "CDS against the other methods",
    "poster": "what the poster states of a whole table",
}


def why(
    verdict: str,
    cause: str,
    *,
    pairs: int,
    reference: str,
    cells: int,
    filled: int,
    error: str,
    unmeasured: str,
    untrained: Sequence[str],
    partial: str,
) -> str:
    """The reason for a verdict.

    cause: what kept it from being tested; pairs: seeds that the claim's own cell and the method `reference` have in
    common; cells, filled: cells that an average is over, and those with a run; error: what stopped a run; unmeasured:
    why finished runs have no value; untrained: data sets without any finished run; partial: those of which only a part
    was at hand, listed.
    """
    if cause == UNMEASURED:
        return f"trained, but not measured: {unmeasured}"
    reason = {
        FAILED: f"a run failed: {error}",
        UNTOUCHED: f"nothing was trained on {listed(untrained)}: not asked for, or the images were not at hand",
        UNTRAINED: "not trained yet",
        HALF: f"{naming.method_name(reference)}, which it is compared with, was not trained with the same seed"
        if filled == cells
        else f"only {filled} of the {cells} cells of the average were trained",
    }.get(cause) or _of_the_interval(verdict, pairs)
    return reason + (f"; only a part of {partial} was at hand" if partial else "")


def _of_the_interval(verdict: str, pairs: int) -> str:
    """The reason for the verdict on a claim that was tested."""
    if verdict == SMOKE:
        return MEANINGS[SMOKE]
    seeds = counted(pairs, "seed")
    if pairs < statistics.MIN_SEEDS:
        return f"{seeds}, and fewer than {statistics.MIN_SEEDS} decide nothing"
    reason = f"the interval {'contains' if verdict == INCONCLUSIVE else 'excludes'} 0 with {seeds}"
    if pairs < statistics.SIGN_FLIP_SEEDS:
        reason += f", of which the sign-flip test cannot give less than p = {statistics.smallest_p(pairs):.3g}"
    return reason


def place(row: pd.Series) -> str:
    """Where a claim holds: `CIFAR-100, ResNet-18, from scratch, top-1`."""
    return naming.group_title([row["dataset"], row["model"], row["setting"], short_name(row["metric"])])


def statement(row: pd.Series) -> str:
    """The published claim as a sentence without its place: `CDS beats the baseline`."""
    reference = naming.method_name(row["reference"])
    best, more = measure(row["metric"]).best, row["paper_delta"] > 0
    verbs = {"highest": ("trails", "beats"), "lowest": ("beats", "trails")}.get(best, ("is below", "is above"))
    verb = verbs[1] if more else verbs[0]
    return f"{naming.method_name(row['method'])} {verb} {'the ' if reference == 'baseline' else ''}{reference}"


def difference(row: pd.Series) -> str:
    """Ours, with its interval, in the decimals of its measure."""
    decimals = measure(row["metric"]).decimals
    return formats.difference(row["baseline_delta"], row["ci_low"], row["ci_high"], decimals)


def published(row: pd.Series) -> str:
    """The published difference; with a digit less, and marked, where it was measured from a plot."""
    decimals = measure(row["metric"]).decimals
    if "measured from the plot" in row["source"]:
        return f"≈ {formats.signed(row['paper_delta'], decimals - 1)}"
    return formats.signed(row["paper_delta"], decimals)


def counts(frame: pd.DataFrame) -> dict[str, int]:
    """Verdict -> number of claims, for the verdicts that occur, in the order of `VERDICTS`."""
    found = frame["verdict"].value_counts()
    return {verdict: int(found[verdict]) for verdict in VERDICTS if verdict in found}


def tested(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims with seeds enough for a verdict, in the order of `VERDICTS`: decided ones first."""
    rows = frame[(frame["n_pairs"] >= statistics.MIN_SEEDS) & ~frame["verdict"].isin((NOT_RUN, SMOKE))]
    return rows.sort_values("verdict", key=lambda verdicts: verdicts.map(VERDICTS.index), kind="stable")


def in_words(frame: pd.DataFrame) -> str:
    """`3 direction confirmed, 12 not run`."""
    return ", ".join(f"{number} {verdict}" for verdict, number in counts(frame).items())


def conclusion(frame: pd.DataFrame) -> list[str]:
    """How many claims were confirmed, how many not, what is unknown and why: a sentence each, as plain text. The claims
    themselves are those of `tested`."""
    profile, total = frame["profile"].iloc[0], len(frame)
    if profile == "smoke":
        return [f"{total} published claims. {MEANINGS[SMOKE].capitalize()}: no claim is judged in the smoke profile."]
    found = [
        f"Of {total} claims (differences of published numbers, not all printed as such; those of Table 3 count twice, "
        f"with and without the max-pool), {in_words(frame)}."
    ]
    missing = [verdict for verdict in (CONFIRMED, CONTRADICTED) if verdict not in counts(frame)]
    if missing:
        found.append(f"{listed(missing).capitalize()}: none.")
    judged = frame["verdict"].isin((REPRODUCED, CONFIRMED, CONTRADICTED))
    interim = int((judged & (frame["n_pairs"] < frame["n_planned"])).sum())
    if interim:
        found.append(
            f"Interim: of the {counted(int(judged.sum()), 'claim')} that the interval decides, {interim} with fewer "
            "seeds than planned; looking before all are there makes a false verdict likelier."
        )
    wide = int((judged & (frame["p_value"] >= 0.05)).sum())
    if wide:
        found.append(
            f"{counted(wide, 'claim')} of the {int(judged.sum())} that the interval decides have a sign-flip p of 0.05 "
            "or more: verdicts rest on the t interval, and so on its assumption of normal differences."
        )
    few = frame[(frame["verdict"] == INCONCLUSIVE) & (frame["n_pairs"] < statistics.MIN_SEEDS)]
    if len(few):
        found.append(
            f"Undecided for lack of seeds: {counted(len(few), 'claim')} with fewer than {statistics.MIN_SEEDS} paired "
            "seeds."
        )
    alone = int((frame["n_planned"] < statistics.MIN_SEEDS).sum())
    if alone:
        found.append(
            f"Planned with fewer than {statistics.MIN_SEEDS} seeds, so without a verdict: {counted(alone, 'claim')}. "
            "--only TABLE --seeds 0,1,2 --results DIR gives more, in a folder of its own: a table is written for the "
            "seeds that are asked for."
        )
    partial = int(((frame["partial"] != "") & (frame["n_pairs"] > 0)).sum())
    if partial:
        found.append(
            f"Measured on an incomplete copy of the data set: {counted(partial, 'claim')} (each run of a miniature "
            "trains on a small part besides)."
        )
    return [*found, *_unknown(frame), *unknown_numbers()]


def _unknown(frame: pd.DataFrame) -> list[str]:
    """Why claims were not tested, with their number: one sentence, none if all were."""
    untouched = frame.loc[frame["cause"] == UNTOUCHED, "dataset"].unique()
    names = [naming.name_of(name) for name in untouched if name in DATASETS]  # not the average over data sets
    found = frame["cause"].value_counts()
    parts = [
        f"{found[cause]} because {text.format(datasets=listed(names))}"
        for cause, text in _CAUSES.items()
        if cause in found
    ]
    return [f"Not tested: {'; '.join(parts)}."] if parts else []


def unknown_numbers() -> list[str]:
    """The tables of the paper that nothing can be compared with, in one sentence; none if there are none."""
    titles = [table.title for table in official() if table.unpublished]
    if not titles:
        return []
    return [f"Without published numbers to compare with: {listed(titles)}."]


def notes(frame: pd.DataFrame) -> list[str]:
    """How to read the verdicts: the rule, the statistics, what the p values cover."""
    least, headline = statistics.MIN_SEEDS, statistics.SIGN_FLIP_SEEDS
    return [
        "A claim is one published difference between two methods on one data set and network. Verdicts: "
        + "; ".join(f"{sign} {name}: {MEANINGS[name]}" for name, sign in SIGNS.items())
        + ".",
        f"Differences are paired by seed, in the unit of the measure (percentage points of accuracy or AP), with "
        f"the 95 % t interval of their mean. A verdict "
        f"needs {least} seeds. Headline claims (Table 1's ResNet-18, semi-supervised) should have {headline}: with "
        "fewer, the two-sided sign-flip test cannot fall below 0.05 whatever the differences are, so that the verdict "
        "rests on the t interval and its assumption of normal differences alone.",
        "p is the sign-flip test of one claim. Holm's p covers, together, the claims of one kind in one table that "
        f"have a p value. With {headline} seeds p is never below {statistics.smallest_p(headline):.3f}, so that Holm's "
        "p of two claims or more cannot fall below 0.05 whatever the differences are; of one claim it is p itself. "
        "Verdicts and intervals are those of one claim at a time: of many true nulls about one in "
        "twenty intervals would exclude 0. They cover chance between seeds, not the choice of the test images, which "
        "all runs share, nor that of the protocol.",
        "Table 3 is run with and without the max-pool, since it is not known which network was published: each of its "
        "published differences is tested twice. A published difference of exactly 0 is no claim.",
    ]
