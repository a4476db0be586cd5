"""Exploratory rows beside Table 1 (docs/registration.md): a control on nine networks, and equation 3 of the paper.

They are compared with the runs of Table 1.
"""

from dataclasses import replace

from cds_lib.study.plan.catalogue import TEN_NETWORKS
from cds_lib.study.plan.protocols import BREADTH_SEEDS, HEADLINE_SEEDS
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.table import Cell, Table, cell

DATASET = "cifar100"


def cells(profile: str) -> list[Cell]:
    """Return baseline, CDS and control on nine networks (one seed in the miniature), then DSN with and without KL."""
    found = []
    for network in TEN_NETWORKS:
        if network != "resnet18":  # its control, with six seeds, is in the table of deviations
            for method in ("baseline", "cds"):
                found.append(cell(supervised(profile, DATASET, network, method), BREADTH_SEEDS[profile]))
            run = replace(supervised(profile, DATASET, network, "baseline"), options={"views": 2})
            found.append(cell(run, BREADTH_SEEDS[profile], method="baseline_two_views"))
    seeds = HEADLINE_SEEDS[profile]
    dsn = supervised(profile, DATASET, "resnet18", "dsn")
    # The equation has no weights: both terms of an inner classifier get the weight that tuning chose for the first.
    with_kl = replace(dsn, options={**dsn.options, "kl_weight": dsn.options["weight"]})
    found.append(cell(dsn, seeds, reference=None))
    found.append(cell(with_kl, seeds, method="dsn_kl", reference="dsn"))
    return found


TABLE = Table(
    title="Controls",
    topic="CIFAR-100: two views without contrastive losses on nine networks, and DSN with a KL term",
    question="Does the control do as well as CDS on the other networks, and what does equation 3 add to DSN?",
    note="nothing: exploratory, announced in docs/registration.md",
    build=cells,
    names={"dsn_kl": "DSN, and a KL divergence from the last classifier to the others"},
    official=False,
)
