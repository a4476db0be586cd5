"""Contrastive methods on ImageNet: does CDS reach in one training what contrastive pre-training reaches in two?"""

from dataclasses import replace

from cds_lib.study.plan.protocols import BREADTH_SEEDS
from cds_lib.study.plan.published import published
from cds_lib.study.plan.settings import distilled, shortened, supervised
from cds_lib.study.plan.spec import Budget, RunSpec
from cds_lib.study.plan.table import Cell, Table, cell

# Row -> its name on the poster, in the poster's order; then, for runs of this table alone, the published batch size and
# epochs. The miniature has batches of 64 (128 if the published size is at least 1,024), 30 epochs (60 if at least 200
# are published) and no AutoAugment in SupCon. `supcon_base_temperature` was added later, with the loss as in SupCon's
# own code; the published number stands in the row `supcon`.
ROWS = {
    "baseline": ("Baseline_1",),
    "baseline_autoaugment": ("Baseline_2", 4096, 270),
    "supcon": ("SupCon_1", 6144, 350),
    "supcon_base_temperature": (None, 6144, 350),
    "supcon_512": ("SupCon_2", 512, 350),
    "supcon_100_epochs": ("SupCon_3", 6144, 100),
    "byol": ("BYOL", 1024, 1000),
    "byol_dsn": ("BYOL_DSN", 1024, 1000),
    "cds": ("Ours_1",),
    "cds_kd": ("Ours_2",),
    "cds_autoaugment": ("Ours_3", 256, 350),
}
_BYOL_FINETUNING = 80  # presumably, of the 1,080 published epochs: 1,000 is a preset of BYOL's own configuration
_MINI_BYOL = {"hidden": 256, "dimensions": 64}


def contrastive(profile: str, row: str, seed: int = 0) -> RunSpec:
    """Return the run of a row of the comparison with contrastive methods: ResNet-50 on ImageNet.

    supcon: contrastive pre-training of everything but the classifier, then a linear classifier on the frozen network;
    supcon_base_temperature also has the factor temperature / base temperature on its loss, as in SupCon's own code.
    byol, byol_dsn: pre-training without labels, then fine-tuning on all labels, plain or with DSN. Learning rates come
    from the methods' own code and are scaled with the batch size: SupCon 0.5 at 1,024 (its CIFAR recipe; the one for
    ImageNet is not known), BYOL 0.2 (LARS; taken to be for a batch of 256), plain training 0.1 at 256.
    """
    spec = supervised(profile, "imagenet", "resnet50", row.split("_")[0], seed)
    budget = _stretched(spec.budget, profile, *ROWS[row][1:])
    autoaugment = replace(budget, augmentation="imagenet_autoaugment")
    if row == "cds_autoaugment":
        return replace(spec, budget=autoaugment)
    cosine = {"schedule": "cosine", "milestones": None, "warmup_epochs": 10 if profile == "paper" else 1}
    if row == "baseline_autoaugment":
        lr = 0.1 * budget.batch_size / 256 if profile == "paper" else budget.lr
        return replace(spec, budget=replace(autoaugment, lr=lr, **cosine))
    if spec.method == "supcon":
        lr = 0.5 * budget.batch_size / 1024
        # With AutoAugment such a short training on such small images does not get started: the loss stayed at its value
        # for equal embeddings.
        augmentation = "contrastive" if profile == "mini" else "contrastive_autoaugment"
        before = replace(budget, lr=lr, augmentation=augmentation, **cosine)
        options = {"base_temperature": 0.07} if row == "supcon_base_temperature" else {}
        return linear(profile, replace(spec, setting="pretrain", budget=before, options={**spec.options, **options}))
    lars = {
        "optimizer": "lars",
        "lr": 0.2 * budget.batch_size / 256,
        "weight_decay": 1.5e-6,
        "augmentation": "contrastive",
    }
    options = {"epochs": budget.epochs, **({} if profile == "paper" else _MINI_BYOL)}
    before = replace(spec, setting="pretrain", budget=replace(budget, **lars, **cosine), options=options)
    after = supervised(profile, "imagenet", "resnet50", "dsn" if row == "byol_dsn" else "baseline", seed)
    part = replace(after.budget, lr=after.budget.lr / 10, new_lr_factor=10.0)
    if profile == "paper":
        part = replace(part, epochs=_BYOL_FINETUNING, batch_size=budget.batch_size, lr=part.lr * 4, **cosine)
    return replace(after, setting="finetune", budget=part, parent=before)


def linear(profile: str, pretrained: RunSpec) -> RunSpec:
    """Return the run of a linear classifier on a frozen network: 100 epochs, batch 512, lr 5, no weight decay.

    Outside the paper profile it has a third of the epochs and lr 0.01: with lr 5, scaled to the batch, it diverged.
    """
    budget = replace(pretrained.budget, weight_decay=0.0, augmentation="imagenet", warmup_epochs=0)
    if profile == "paper":
        budget = replace(budget, epochs=100, batch_size=512, lr=5.0)
    else:
        budget = shortened(replace(budget, lr=0.01), 3)
    return replace(pretrained, method="linear", setting="linear", budget=budget, options={}, parent=pretrained)


def _stretched(budget: Budget, profile: str, batch_size: int, epochs: int) -> Budget:
    if profile == "paper":
        milestones = budget.milestones and tuple(m * epochs // budget.epochs for m in budget.milestones)
        return replace(budget, batch_size=batch_size, epochs=epochs, milestones=milestones)
    if profile == "mini":
        long = replace(budget, epochs=60, eval_every=10) if epochs >= 200 else budget
        return replace(long, batch_size=64 if batch_size < 1024 else 128)
    return budget


def run(profile: str, row: str) -> RunSpec:
    """Return the run of any row."""
    build = {"baseline": supervised, "cds": supervised, "cds_kd": distilled}.get(row)
    return build(profile, "imagenet", "resnet50", row) if build else contrastive(profile, row)


def cells(profile: str) -> list[Cell]:
    """Return the cells of ResNet-50 under plain, contrastive and deeply supervised training of different lengths."""
    return [
        cell(
            run(profile, row),
            BREADTH_SEEDS[profile],
            method=row,
            setting="supervised",
            paper=name and published("contrastive_comparison", name, "top1_percent"),
        )
        for row, (name, *_) in ROWS.items()
    ]


TABLE = Table(
    title="Contrastive methods on ImageNet",
    topic="SupCon, BYOL and contrastive deep supervision",
    question="Does contrastive deep supervision reach in one training what contrastive pre-training reaches in two, "
    "and for fewer epochs?",
    published=("contrastive_comparison",),
    build=cells,
    margin=("cds_autoaugment", "byol_dsn"),
    names={
        "baseline_autoaugment": "baseline, AutoAugment",
        "supcon_base_temperature": "SupCon, loss × 0.1/0.07",
        "supcon_512": "SupCon, smaller batch",
        "supcon_100_epochs": "SupCon, fewer epochs",
        "byol_dsn": "BYOL + DSN",
        "cds_autoaugment": "CDS, AutoAugment",
    },
    colours={"baseline_autoaugment": "#999999", "cds_autoaugment": "#E69F00"},
)
