"""Analyses of the rematch's arms: what the networks have learned, against the control that sees both views."""

from cds_lib.study.plan.rematch import ARMS, SEEDS, arm_cell, final
from cds_lib.study.plan.table import Cell, Table

BLOCKS = ("1.2", "2.2", "3.2", "4.2")  # the last block of each stage
# Analysis -> its measures.
MEASURES = {
    "probe": [f"probe_top1_{block}" for block in BLOCKS],
    "transfer": [f"transfer_top1_{block}" for block in BLOCKS],
    "invariance": [f"invariance_{block}" for block in BLOCKS] + [f"cka_last_{block}" for block in BLOCKS[:-1]],
    "calibration": ["ece", "nll"],
    "tsne": [f"knn_stage{stage}" for stage in (1, 2, 3, 4)],
}


def cells(profile: str) -> list[Cell]:
    """Return the five arms measure by measure, each against the control, with six seeds."""
    return [
        arm_cell(profile, final(profile, arm), SEEDS[:6], arm, "rematch", metric, source)
        for source, metrics in MEASURES.items()
        for metric in metrics
        for arm in ARMS
    ]


TABLE = Table(
    title="Rematch, layer by layer",
    topic="probes, transfer, invariance, calibration and neighbours of the five arms",
    question="Do early layers learn something else from contrastive losses than from a second view?",
    note="nothing: registered in docs/registration.md",
    build=cells,
    own_seeds=True,
    official=False,
)
