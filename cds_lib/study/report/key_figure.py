"""The figure of README, index and article: CDS minus each of what it is compared with, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from cds_lib.study.plan.rematch import OUTCOME, PRIMARY
from cds_lib.study.report.comparisons import CONTROL
from cds_lib.study.report.figures import forest, theme
from cds_lib.study.report.frame import CELL, paired

DESCRIPTION = (
    "Top-1 of CDS minus that of the baseline, DSN, DKS, DHM and the two-view control, ResNet-18 on CIFAR-100: a point "
    "per seed, the mean with its 95 % interval, the published difference as a diamond. Below: the rematch, CDS with "
    "the cross-entropy of both views minus that control, both tuned, on all unseen images."
)
_NAMES = {"baseline": "baseline", "dsn": "DSN", "dks": "DKS", "dhm": "DHM", CONTROL: "control: baseline, two views"}


def key_figure(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """See DESCRIPTION; from `frame.every_result`."""
    frame = pd.concat([frames["table1_cifar100"], frames["deviations"]])[[*CELL, "run", "seed", "value", "paper"]]
    frame = frame.query("dataset == 'cifar100' and model == 'resnet18' and setting == 'supervised'")
    frame = frame.drop_duplicates(["run", "method"])
    rows = [paired(frame, method).query("method == 'cds'").assign(against=name) for method, name in _NAMES.items()]
    ours, control = PRIMARY
    rematch = frames["rematch"].query("setting == 'rematch'")
    rematch = paired(rematch[rematch["metric"] == OUTCOME], control).query(f"method == '{ours}'")
    rows.append(rematch.assign(against="rematch: CDS with both views minus its control"))
    theme()
    return forest(pd.concat(rows, ignore_index=True), "against", "top-1 of CDS minus that of …, points")
