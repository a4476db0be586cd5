"""RESULTS/tables/comparisons.csv: the differences "A minus B" behind the answers of the study.

Besides published differences, whose verdicts are in the summary, it has differences that nobody published: against
controls, on validation images, over all networks.
"""

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd

from cds_lib.study import statistics
from cds_lib.study.plan.rematch import OUTCOME, PRIMARY, SECONDARY, VALIDATION
from cds_lib.study.report.frame import CELL, PLACE, compare, paired

CONTROL = "baseline_two_views"
DEEP = ("dsn", "dks", "dhm")
EQUAL_FIT = "rematch_equal_fit"  # name of a question and of its setting
TRAINING_LOSS = "train_cross_entropy"

Pairs = Iterable[tuple[str, str]]
BEATS = [*product(("cds", *DEEP), ("baseline",)), *product(("cds",), DEEP)]
LAYERS = [("dsn", "baseline"), ("cds", "baseline"), ("cds", "dsn")]

# Question -> its tables, its pairs (method, reference), and the columns compared (None: the cell's own value).
QUESTIONS: dict[str, tuple[tuple[str, ...], Pairs, tuple[str | None, ...]]] = {
    "accuracy": (("table1_cifar100",), BEATS, (None, VALIDATION)),
    "control": (
        ("table1_cifar100", "deviations"),
        [*product(("cds", "cds_two_ce_views", "cds_two_ce_views_weight_tenth", "baseline", *DEEP), (CONTROL,))],
        (None, VALIDATION),
    ),
    # The control records the mean cross-entropy of both views. Methods that record that of view 1 are not comparable.
    "control_loss": (
        ("deviations",),
        [*product(("cds_two_ce_views", "cds_two_ce_views_weight_tenth"), (CONTROL,))],
        (TRAINING_LOSS,),
    ),
    "few_labels": (("semi_supervised",), [*product(("cds_simclr",), ("baseline", "baseline_matched"))], (None,)),
    "early_layers": (("layerwise_accuracy",), LAYERS, (None,)),
    "calibration": (("calibration",), LAYERS, (None,)),
    "regularisation": (("table1_cifar100",), BEATS, (TRAINING_LOSS,)),
    "distillation": (
        ("distillation_cifar100",),
        [*product(("cds_kd",), ("baseline", "cds", "kd", "at", "rkd", "sp", "cc", "crd", "okd", "sskd"))],
        (None,),
    ),
    "rematch": (("rematch", "rematch_layers"), [PRIMARY, *SECONDARY], (None,)),
    EQUAL_FIT: (("rematch",), [PRIMARY], (None,)),
    "ladder": (("ladder",), [PRIMARY], (None, OUTCOME)),
}
COMPARED = tuple(dict.fromkeys(name for names, _, _ in QUESTIONS.values() for name in names))  # tables
ONE_NETWORK = ("accuracy", "control", "control_loss", "regularisation")  # about ResNet-18, which has six seeds
COLUMNS = ("question", "method", "reference", *PLACE, "metric", "difference", "low", "high", "p", "n")
COLUMNS += ("published", "verdict", "size", "side", "above")


def comparisons(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per comparison "method minus reference", from `frame.every_result` of the tables COMPARED.

    Columns: question, method, reference, dataset, model, setting, metric; difference with its 95 % t interval (low,
    high), sign-flip p and number of pairs n; published difference, verdict and size, if published; side: "above" or
    "below" if the interval excludes 0, "open" if it does not, "" with fewer than three pairs. The question "networks"
    pairs by network instead of by seed; above: number of networks with a difference above 0. In the question
    "labels_together" a seed's value is its mean over the shares of labels.
    """
    rows, columns = [], [*CELL, "run", "seed", "value", "paper", "profile", VALIDATION, TRAINING_LOSS, OUTCOME]
    frames = {name: frame.reindex(columns=columns) for name, frame in frames.items()}
    for question, (tables, pairs, metrics) in QUESTIONS.items():
        frame = pd.concat([frames[name] for name in tables]).drop_duplicates(["run", "method", "metric", "setting"])
        if question in ONE_NETWORK:
            frame = frame.query("dataset == 'cifar100' and model == 'resnet18' and setting == 'supervised'")
        frame = frame[(frame["setting"] == EQUAL_FIT) == (question == EQUAL_FIT)]
        for (method, reference), metric in product(pairs, metrics):
            found = compare(frame, method, reference, metric)
            rows.append(found.assign(question=question, method=method, reference=reference))
    rows += [across(frames["table1_cifar100"]), labels_together(frames["semi_supervised"])]
    numeric = {"above": "Int64", "low": "float64", "high": "float64"}
    found = pd.concat(rows, ignore_index=True).astype(numeric)
    sides = [found["n"] < statistics.MIN_SEEDS, found["low"] > 0, found["high"] < 0]
    return found.assign(side=np.select(sides, ["", "above", "below"], "open"))[list(COLUMNS)]


def across(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the differences over networks. A network's value is the mean of its differences by seed; the interval is
    over networks. Networks share their training images, so no verdict is based on the interval.
    """
    rows = []
    for method, reference in BEATS:
        each = compare(frame, method, reference).dropna(subset=["difference"])
        place = ("cifar100", f"{len(each)} networks", "supervised", frame["metric"].iloc[0])
        above, published = (each["difference"] > 0).sum(), each["published"].mean()
        row = _mean_of(each["difference"], "networks", method, reference, *place)
        rows.append({**row, "published": published, "above": above})
    return pd.DataFrame(rows)


def labels_together(frame: pd.DataFrame) -> pd.DataFrame:
    """Return CDS without labels minus each baseline over all shares of labels, for the seeds that have every share."""
    rows = []
    for reference in ("baseline", "baseline_matched"):
        found = paired(frame, reference).query("method == 'cds_simclr'")
        for (dataset, model, metric), each in found.groupby(["dataset", "model", "metric"], sort=False):
            shares = frame.loc[frame["dataset"] == dataset, "setting"].unique()
            gains = each.pivot(index="seed", columns="setting", values="difference").reindex(columns=shares)
            gains = gains.dropna().mean(axis=1)
            rows.append(_mean_of(gains, "labels_together", "cds_simclr", reference, dataset, model, "semi", metric))
    return pd.DataFrame(rows)


def _mean_of(differences: pd.Series, *names: str) -> dict[str, object]:
    """Return the mean of these differences as a row without a verdict; names: the values of its first columns."""
    found = statistics.mean_difference(differences.to_numpy())
    return {**dict(zip(COLUMNS, names, strict=False)), **found._asdict(), "verdict": "", "size": ""}
