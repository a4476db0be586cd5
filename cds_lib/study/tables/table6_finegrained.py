"""Table 6: does CDS help a network that is fine-tuned on fine-grained classes?"""

from dataclasses import replace

from cds_lib.study.plan.catalogue import DEEP_SUPERVISION
from cds_lib.study.plan.protocols import BREADTH_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import supervised
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Cell, Table, cell

FINE_GRAINED = ("cub200", "stanford_cars", "flowers102", "stanford_dogs", "fgvc_aircraft")
# Where the method is applied: in pre-training on ImageNet, in fine-tuning, or in both.
APPLIED = {"finetune": (True, True), "finetune_pretraining_only": (True, False), "finetune_only": (False, True)}


def finetuned(profile: str, dataset: str, model: str, method: str, setting: str, seed: int = 0) -> RunSpec:
    """Return a run that fine-tunes a network pre-trained on ImageNet (Table 3, with max-pool) on a fine-grained set."""
    before, after = (method if applied else "baseline" for applied in APPLIED[setting])
    parent = supervised(profile, "imagenet", model, before, seed)
    return replace(supervised(profile, dataset, model, after, seed), setting=setting, parent=parent)


def cells(profile: str) -> list[Cell]:
    """Return the cells of five sets, with the method in pre-training and fine-tuning, or in only one of the two. By our
    choice the published numbers stand beside the first form. The baseline is the same in all three forms."""
    return [
        cell(
            finetuned(profile, dataset, "resnet50", method, setting),
            BREADTH_SEEDS[profile],
            method=method,
            paper=published("table_6", method, dataset) if setting == "finetune" else None,
            reference=None if method == "baseline" else (dataset, "resnet50", "baseline", "finetune"),
        )
        for dataset in FINE_GRAINED
        for setting in APPLIED
        for method in DEEP_SUPERVISION
        if setting == "finetune" or method != "baseline"
    ]


TABLE = Table(
    title="Table 6",
    topic="fine-tuning on five fine-grained data sets",
    question="Does contrastive deep supervision help a network that is fine-tuned on fine-grained classes, and is it "
    "the pre-training or the fine-tuning that gains?",
    published=("table_6",),
    build=cells,
    average="cds",
    names={
        "finetune": "in pre-training and fine-tuning",
        "finetune_pretraining_only": "in pre-training only",
        "finetune_only": "in fine-tuning only",
    },
)
