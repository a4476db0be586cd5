"""The runs that the analyses use: ResNet-18 on CIFAR-100 under the baseline, DSN and CDS, from Table 1."""

from collections.abc import Sequence

from cds_lib.study.plan.protocols import HEADLINE_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.table import Cell, cell

DATASET, MODEL = "cifar100", "resnet18"
METHODS = ("baseline", "dsn", "cds")
STAGES = tuple(f"stage{number}" for number in (1, 2, 3, 4))
BLOCKS = tuple(f"{stage}.{block}" for stage in (1, 2, 3, 4) for block in (1, 2))


def measured(
    profile: str, metric: str, source: str, methods: Sequence[str] = METHODS, table_id: str = "", column: str = ""
) -> list[Cell]:
    """Return the cells of one metric, a cell per method, compared with the baseline if it is among the methods.
    `table_id` and `column` name the published table and its column."""
    return [
        cell(
            supervised(profile, DATASET, MODEL, method),
            HEADLINE_SEEDS[profile],
            metric=metric,
            paper=published(table_id, method, column) if table_id else None,
            reference="baseline" if "baseline" in methods else None,
            source=source,
        )
        for method in methods
    ]
