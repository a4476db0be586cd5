"""The grids of the analyses: ResNet-18 on CIFAR-100 under the baseline, DSN and CDS, on the runs of Table 1."""

from __future__ import annotations

from collections.abc import Sequence

from cds_lib.study import settings
from cds_lib.study.grids import HISTORY, METRICS, TOP1, Cell
from cds_lib.study.profiles import HEADLINE_SEEDS, Seeds, seeds_of
from cds_lib.study.published import published

DATASET, MODEL = "cifar100", "resnet18"
METHODS = ("baseline", "dsn", "cds")
STAGES = tuple(f"stage{number}" for number in (1, 2, 3, 4))
BLOCKS = tuple(f"{stage}.{block}" for stage in (1, 2, 3, 4) for block in (1, 2))  # of ResNet-18
EARLY = BLOCKS[:4]  # the blocks of stages 1 and 2, of which the paper's argument predicts something


def _cells(
    profile: str,
    seeds: Seeds,
    metric: str,
    source: str,
    methods: Sequence[str] = METHODS,
    table_id: str | None = None,
    column: str = "",
) -> list[Cell]:
    """One metric of every method, compared with the baseline's; of all seeds that the headline claim has."""
    seeds = seeds_of(profile, seeds, HEADLINE_SEEDS)
    return [
        Cell(
            dataset=DATASET,
            model=MODEL,
            method=method,
            setting="supervised",
            metric=metric,
            paper=table_id and published(table_id, method, column),
            specs=tuple(settings.supervised(profile, DATASET, MODEL, method, seed) for seed in seeds),
            reference=None
            if method == "baseline" or "baseline" not in methods
            else (DATASET, MODEL, "baseline", "supervised"),
            source=source,
        )
        for method in methods
    ]


def linear_probe(profile: str, seeds: Seeds) -> list[Cell]:
    """A linear probe at each of the four stages."""
    return [cell for stage in STAGES for cell in _cells(profile, seeds, f"probe_top1_{stage}", "probe")]


def layerwise(profile: str, seeds: Seeds) -> list[Cell]:
    """At every block: probes on CIFAR-100 and on CIFAR-10, invariance, CKA with the last block and the baseline's."""
    measures = (("probe_top1", "probe"), ("transfer_top1", "transfer"), ("invariance", "similarity"))
    cells = []
    for measure, source in (*measures, ("cka_last", "similarity")):
        for block in BLOCKS[:-1] if measure == "cka_last" else BLOCKS:  # the last is 1 to itself, whatever the method
            cells += _cells(profile, seeds, f"{measure}_{block}", source)
    for block in BLOCKS:
        cells += _cells(profile, seeds, f"cka_baseline_{block}", "similarity", METHODS[1:])
    return cells


def calibration(profile: str, seeds: Seeds) -> list[Cell]:
    """Calibration error and likelihood, with the accuracy, whose published claim is Table 1's."""
    ece = {"table_id": "fig_calibration_numbers", "column": "ece_percent"}
    return [
        *_cells(profile, seeds, "ece", "calibration", **ece),
        *_cells(profile, seeds, "nll", "calibration"),
        *_cells(profile, seeds, TOP1, METRICS),
    ]


def training_loss(profile: str, seeds: Seeds) -> list[Cell]:
    """Cross-entropy in the last epoch of training, with the test accuracy, whose published claim is Table 1's."""
    loss = {"table_id": "fig_training_loss_end_values", "column": "final_cross_entropy"}
    return [
        *_cells(profile, seeds, "train_cross_entropy", HISTORY, **loss),
        *_cells(profile, seeds, TOP1, METRICS),
    ]


def tsne(profile: str, seeds: Seeds) -> list[Cell]:
    """How well classes are apart at each stage, in the space that the pictures are drawn from."""
    measures = ("knn", "silhouette")
    return [c for name in measures for stage in STAGES for c in _cells(profile, seeds, f"{name}_{stage}", "tsne")]
