"""The tables of the study by name. Every file in this folder defines one as TABLE, which takes the name of the file.

Files whose names begin with an underscore hold what several tables share.
"""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

from cds_lib.errors import UsageError
from cds_lib.study.plan.table import Table

SUMMARY = "summary"  # has no grid of its own: it lists every published claim of the other tables, with a verdict

# The order in which tables are trained and shown. Other tables follow by name.
ORDER = (
    *("00_start_here", "tuning", "table1_cifar100", "table2_cifar10", "table3_imagenet", "table4_coco"),
    *("table6_finegrained", "table7_imagenet_distillation", "contrastive_methods", "distillation_cifar100"),
    *("semi_supervised", "linear_probe", "layerwise_accuracy", "calibration", "training_loss", "tsne"),
    *("deviations", SUMMARY, "rematch", "ladder"),
)

_FILES = sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
TABLES: dict[str, Table] = {
    name: replace(import_module(f"{__name__}.{name}").TABLE, name=name) for name in dict.fromkeys([*ORDER, *_FILES])
}


def official() -> list[Table]:
    """Return the paper's tables, which counts, claims and costs are about."""
    return [table for table in TABLES.values() if table.official]


def find_table(name: str) -> Table:
    """Return the table of this name; otherwise raise a UsageError that lists the names."""
    if name not in TABLES:
        raise UsageError(f"Unknown table {name!r}: choose from {', '.join(TABLES)}.")
    return TABLES[name]
