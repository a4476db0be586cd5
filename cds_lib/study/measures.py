"""What the metrics of the tables are: how they are called, what a caption must admit, their unit and decimals."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """short: in headings and on axes; long: in the notes below a table.

    unit: of a difference, "" for a number without one; decimals: as printed; best: "highest", "lowest", or "" where no
    value is better than another.
    """

    short: str
    long: str
    unit: str = "percentage points"
    decimals: int = 2
    best: str = "highest"

    @property
    def better(self) -> str:
        """Which side is better, in words."""
        return {"highest": "higher is better", "lowest": "lower is better"}.get(self.best, "neither side is better")


_MEASURES = {
    "val_top1_last": Measure(
        "validation top-1",
        "validation top-1 accuracy after the last epoch, on images held back from training, in percent",
    ),
    "test_top1_last": Measure("top-1", "test top-1 accuracy after the last epoch, in percent"),
    "test_top5_last": Measure("top-5", "test top-5 accuracy after the last epoch, in percent"),
    "test_ap_last": Measure(
        "AP", "AP: box AP on val2017 after the last epoch (mean over IoU 0.50 to 0.95), in percent"
    ),
    "test_ap_s_last": Measure("AP small", "AP small: of objects below 32x32 pixels"),
    "test_ap_m_last": Measure("AP medium", "AP medium: of objects between"),
    "test_ap_l_last": Measure("AP large", "AP large: of objects above 96x96 pixels"),
    "train_cross_entropy": Measure(
        "training cross-entropy",
        "training cross-entropy: of the classifier, mean over the augmented training images of the last epoch, in nats",
        unit="nats",
        decimals=3,
        best="",
    ),
    "ece": Measure(
        "ECE", "ECE: expected calibration error on the test images, 15 bins of equal width, in percent", best="lowest"
    ),
    "nll": Measure(
        "NLL",
        "NLL: mean negative log-likelihood of the test images, in nats",
        unit="nats",
        decimals=3,
        best="lowest",
    ),
}
# Measures that are taken at a stage ("..._stage3") or a block ("..._3.2") of a network.
_AT_A_LAYER = {
    "probe_top1": Measure(
        "linear probe",
        "linear probe: test accuracy of a logistic regression on the frozen features, averaged over positions, in "
        "percent; validation images choose its penalty",
    ),
    "transfer_top1": Measure(
        "linear probe on CIFAR-10",
        "linear probe on CIFAR-10: the same for classes that the network was not trained on, in percent",
    ),
    "invariance": Measure(
        "invariance",
        "invariance: mean cosine similarity of the centred features of two augmented views of a test image (of "
        "different images it is about 0)",
        unit="",
        decimals=3,
        best="",
    ),
    "cka_last": Measure(
        "CKA with the last block",
        "CKA with the last block: linear centred kernel alignment of the test features, 0 to 1",
        unit="",
        decimals=3,
        best="",
    ),
    "cka_baseline": Measure(
        "CKA with the baseline",
        "CKA with the baseline: the same between this block and that of the baseline of the same seed",
        unit="",
        decimals=3,
        best="",
    ),
    "knn": Measure(
        "k-NN accuracy",
        "k-NN accuracy: percent of the images whose 10 nearest other images vote for their class, in the space of the "
        "features itself",
    ),
    "silhouette": Measure(
        "silhouette", "silhouette of the classes in that space, -1 (mixed) to 1 (apart)", unit="", decimals=3
    ),
}


_PERCENT = re.compile(
    r"((test|val|unseen|trained)_(top[15]|ap|ap_[sml])(_last|_best)?|ece|((probe|transfer)_top1|knn)_.+)"
)


def is_percentage(name: str) -> bool:
    """Whether this column of a history, this result or this value of an analysis is a percentage, 0 to 100."""
    return _PERCENT.fullmatch(name) is not None


def at_a_layer(metric: str) -> tuple[str, str]:
    """("probe_top1", "stage3") of "probe_top1_stage3"; ("top1_last", "") of a metric that is not taken at a layer."""
    name, _, layer = metric.rpartition("_")
    return (name, layer) if name in _AT_A_LAYER else (metric, "")


def measure(metric: str) -> Measure:
    """What a metric is; the same for every layer it is taken at."""
    name, layer = at_a_layer(metric)
    return _AT_A_LAYER[name] if layer else _MEASURES[name]


def short_name(metric: str) -> str:
    """`top-1`, `linear probe, stage 3`, `invariance, block 3.2`."""
    layer = at_a_layer(metric)[1]
    place = "" if not layer else f", stage {layer[5:]}" if layer.startswith("stage") else f", block {layer}"
    return measure(metric).short + place
