"""What the analyses answer to the questions of their notebooks, beyond the differences to the baseline of every table.

Plain sentences from finished runs; none in the smoke profile, and none of what was not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from IPython.display import HTML

from cds_lib.findings import comparisons, control
from cds_lib.findings.comparisons import ABOVE, BELOW, FEW, OPEN
from cds_lib.reporting import html, naming, report
from cds_lib.study import statistics
from cds_lib.study.measures import measure
from cds_lib.study.protocols import Seeds
from cds_lib.study.statistics import Difference
from cds_lib.study.store import Store
from cds_lib.study.table import TOP1
from cds_lib.study.tables import TABLES
from cds_lib.study.tables._headline import EARLY
from cds_lib.text import listed

if TYPE_CHECKING:
    from cds_lib.session import Session

NLL = "test_loss_last"  # of every run: mean cross-entropy of the test images, which is their NLL
_TO_DSN = {
    ABOVE: "CDS is calibrated worse than DSN",
    BELOW: "CDS is calibrated better than DSN",
    OPEN: "the two are not told apart",
    FEW: comparisons.DECIDE_NOTHING,
}
_OF_NLL = _TO_DSN | {
    ABOVE: "CDS has the higher NLL, in which accuracy counts too",
    BELOW: "CDS has the lower NLL, in which accuracy counts too",
}
# What should be seen in the early blocks: the sentence, a measure, two methods, and on which side of 0 the first minus
# the second should be.
_PREDICTIONS = (
    ("DSN serves other classes worse than the baseline", "transfer_top1", "dsn", "baseline", BELOW),
    ("CDS serves other classes better than DSN", "transfer_top1", "cds", "dsn", ABOVE),
    ("under CDS two views look more alike than under the baseline", "invariance", "cds", "baseline", ABOVE),
    ("under DSN they resemble the last block more than under the baseline", "cka_last", "dsn", "baseline", ABOVE),
)


def shown(study: Session) -> HTML:
    """What the analysis of this notebook answers, as a list; nothing where there is nothing to say."""
    say = {"calibration": calibration, "training_loss": training_loss, "layerwise_accuracy": layerwise}
    return HTML(html.bullets(say[study.table.name](study.profile, study.seeds, study.store)))


def calibration(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """CDS against DSN in ECE and NLL, the NLL of every method of Table 1, and CDS against the baseline of two views."""
    if profile == "smoke":
        return []
    ece = {
        cell.method: report.by_seed(cell, cell.metric, store)
        for cell in TABLES["calibration"].cells(profile, seeds)
        if cell.metric == "ece"
    }
    cells = comparisons.headline_cells(profile, seeds)
    rows = ("baseline", *comparisons.CLASSIFIERS, "cds", control.SWITCH)
    nll = {row: report.by_seed(cells[row], NLL, store) for row in rows}
    said = [
        *_judged("CDS minus DSN in ECE, percentage points", ece["cds"], ece["dsn"], 2, _TO_DSN),
        *_judged("CDS minus DSN in NLL, nats", nll["cds"], nll["dsn"], 3, _OF_NLL),
    ]
    means = {row: statistics.summarise(list(values.values())) for row, values in nll.items() if values}
    if len(means) > 1:
        ordered = sorted(means.items(), key=lambda item: item[1].mean)
        means_said = "; ".join(f"{naming.method_name(row)} {found.mean:.3f} ({found.n})" for row, found in ordered)
        said.append(f"Mean NLL of the test images, the lowest first, with the number of seeds: {means_said}.")
    opening = f"CDS minus the {naming.method_name(control.SWITCH)}, a control of Table 1, in NLL"
    return [*said, *_judged(opening, nll["cds"], nll[control.SWITCH], 3, _OF_NLL)]


def _judged(
    opening: str, ours: Mapping[int, float], reference: Mapping[int, float], decimals: int, meanings: Mapping[str, str]
) -> list[str]:
    """One sentence: the difference, in how many seeds it is above 0, and what its interval means; none of no seed."""
    common = ours.keys() & reference.keys()
    if not common:
        return []
    found, difference = comparisons.compare(ours, reference, decimals)
    above = sum(ours[seed] > reference[seed] for seed in common)
    return [f"{opening}: {difference}, above 0 in {above} of {len(common)}: {meanings[found]}."]


def training_loss(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """The rise of the training loss under every method of Table 1 beside its gain, whether the two go together, and
    what a contradiction would say."""
    if profile == "smoke":
        return []
    cells = comparisons.headline_cells(profile, seeds)
    rows = ("baseline", *comparisons.CLASSIFIERS, "cds")
    loss = {row: report.by_seed(cells[row], comparisons.LOSS, store) for row in rows}
    accuracy = {row: report.by_seed(cells[row], TOP1, store) for row in rows}
    rises, higher = [], []
    for row in rows[1:]:
        rise = statistics.paired_difference(loss[row], loss["baseline"])
        if rise.n:
            gain = statistics.paired_difference(accuracy[row], accuracy["baseline"])
            text = f"{comparisons.interval(rise, 3)} nats and {comparisons.interval(gain)} points (n = {rise.n})"
            rises.append((rise.delta, f"{naming.method_name(row)} {text}"))
        to_cds = [statistics.paired_difference(values[row], values["cds"]) for values in (loss, accuracy)]
        if [comparisons.outcome(difference) for difference in to_cds] == [ABOVE, BELOW]:
            higher.append(naming.method_name(row))
    said = []
    if rises:
        rises_said = "; ".join(text for _, text in sorted(rises))
        said.append(f"Training cross-entropy and top-1 against the baseline, the smallest rise first: {rises_said}.")
    if higher:
        said.append(
            f"Of the methods with classifiers on early layers, {listed(higher)} ended with a higher training loss "
            "than CDS and with a lower accuracy, each interval excluding 0: the height of the loss does not order the "
            "methods."
        )
    lower = comparisons.outcome(statistics.paired_difference(loss["cds"], loss["baseline"])) == BELOW
    if lower and profile == "mini":  # the full protocol is no short training
        said.append(
            "Contradicted: in a short training no network comes near zero, and a method that helps it fit ends with a "
            "lower training loss; the published sign may belong to a longer training."
        )
    return said


def layerwise(profile: str, seeds: Seeds, store: Store) -> list[str]:
    """What was predicted of the early blocks, and at which of them it was found: an item a prediction."""
    if profile == "smoke":
        return []
    values = {
        (cell.metric, cell.method): report.by_seed(cell, cell.metric, store)
        for cell in TABLES["layerwise_accuracy"].cells(profile, seeds)
    }
    said = []
    for prediction, name, method, reference, side in _PREDICTIONS:
        metrics = {block: f"{name}_{block}" for block in EARLY}
        found = {
            block: statistics.paired_difference(values[metric, method], values[metric, reference])
            for block, metric in metrics.items()
        }
        if all(difference.n for difference in found.values()):
            what = measure(metrics[EARLY[0]])
            subject = f"{what.short}, {naming.method_name(method)} minus {naming.method_name(reference)}"
            numbers = ", ".join(f"{block} {comparisons.interval(each, what.decimals)}" for block, each in found.items())
            seeds_each = {difference.n for difference in found.values()}
            said.append(
                f"Predicted of early layers, that {prediction}: {_where(found, side)} ({subject}, n = "
                f"{' to '.join(map(str, sorted(seeds_each)))}: {numbers})."
            )
    return said


def _where(found: Mapping[str, Difference], side: str) -> str:
    """`so at blocks 1.1, 1.2; the opposite at block 2.1; not told apart at block 2.2`"""
    meanings = {side: "so", OPEN: "not told apart", FEW: comparisons.DECIDE_NOTHING}
    places: dict[str, list[str]] = {}
    for block, difference in found.items():
        places.setdefault(meanings.get(comparisons.outcome(difference), "the opposite"), []).append(block)
    if list(places) == [comparisons.DECIDE_NOTHING]:
        return comparisons.DECIDE_NOTHING
    if len(places) == 1:
        return f"{next(iter(places))} at all {len(found)} blocks of stages 1 and 2"
    return "; ".join(
        f"{meaning} at {'block' if len(blocks) == 1 else 'blocks'} {', '.join(blocks)}"
        for meaning, blocks in places.items()
    )
