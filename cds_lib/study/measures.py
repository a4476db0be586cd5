"""Names and printed decimals of the tables' metrics."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a metric is printed. short: its name in headings and on axes; decimals: digits after the point."""

    short: str
    decimals: int = 2


_MEASURES = {
    "val_top1_last": Measure("validation top-1"),
    "unseen_top1_last": Measure("top-1, all unseen images"),
    "unseen_loss_last": Measure("loss, all unseen images", 3),
    "trained_top1_last": Measure("top-1, its training images"),
    "trained_loss_last": Measure("loss, its training images", 3),
    "gradient_ratio_first": Measure("gradient ratio before training", 3),
    "gradient_ratio_last": Measure("gradient ratio after training", 3),
    "gradient_cosine_last": Measure("gradient cosine after training", 3),
    "test_top1_last": Measure("top-1"),
    "test_top5_last": Measure("top-5"),
    "test_ap_last": Measure("AP"),
    "test_ap_s_last": Measure("AP small"),
    "test_ap_m_last": Measure("AP medium"),
    "test_ap_l_last": Measure("AP large"),
    "train_cross_entropy": Measure("training cross-entropy", 3),
    "ece": Measure("ECE"),
    "nll": Measure("NLL", 3),
}
# Measures that are taken at a stage ("..._stage3") or a block ("..._3.2") of a network.
_AT_A_LAYER = {
    "probe_top1": Measure("linear probe"),
    "transfer_top1": Measure("linear probe on CIFAR-10"),
    "invariance": Measure("invariance", 3),
    "cka_last": Measure("CKA with the last block", 3),
    "cka_baseline": Measure("CKA with the baseline", 3),
    "knn": Measure("k-NN accuracy"),
    "silhouette": Measure("silhouette", 3),
}


_PERCENT = re.compile(
    r"((test|val|unseen|trained)_(top[15]|ap|ap_[sml])(_last|_best)?|ece|((probe|transfer)_top1|knn)_.+)"
)


def is_percentage(name: str) -> bool:
    """Whether this column of a history, metric or value of an analysis is a percentage (0 to 100)."""
    return _PERCENT.fullmatch(name) is not None


def at_a_layer(metric: str) -> tuple[str, str]:
    """Return ("probe_top1", "stage3") for "probe_top1_stage3", and (metric, "") if it is not taken at a layer."""
    name, _, layer = metric.rpartition("_")
    return (name, layer) if name in _AT_A_LAYER else (metric, "")


def measure(metric: str) -> Measure:
    """Return the name and decimals of a metric, the same at every layer. An unknown metric keeps its name."""
    name, layer = at_a_layer(metric)
    return _AT_A_LAYER[name] if layer else _MEASURES.get(metric, Measure(metric))


def short_name(metric: str) -> str:
    """Return the printed name: `top-1`, `linear probe, stage 3`, `invariance, block 3.2`."""
    layer = at_a_layer(metric)[1]
    kind = "block" if "." in layer else "stage"
    return measure(metric).short + (f", {kind} {layer.removeprefix('stage')}" if layer else "")
