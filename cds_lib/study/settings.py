"""How a run of each setting is built: supervised, distilled, semi-supervised, fine-tuned, contrastive, detection.

Every function gives the run of one cell under one profile and seed; runs that it starts from are its parents.
"""

from __future__ import annotations

from dataclasses import replace

from cds_lib.study import profiles
from cds_lib.study.spec import Budget, RunSpec

# The stem as released never calls its max-pool.
NO_MAX_POOL = "imagenet_no_max_pool"
DETECTORS = ("faster_rcnn", "retinanet")


def supervised(profile: str, dataset: str, model: str, method: str, seed: int, stem: str | None = None) -> RunSpec:
    """A training from scratch. `stem` replaces the one of the budget (`NO_MAX_POOL`)."""
    family = profiles.family_of(dataset)
    options = profiles.method_options(profile, family, method)
    budget = profiles.budget(profile, family, model)
    return RunSpec(dataset, model, method, "supervised", seed, replace(budget, stem=stem or budget.stem), options)


# A student's teacher. On CIFAR that of the released `CIFAR/distill.py`. On ImageNet no row's teacher is known: ours is
# the released script's ResNet-50 where it is deeper than the student, else the next deeper network.
TEACHERS = {"resnet18": "resnet50", "resnet34": "resnet50", "resnet50": "resnet101"}


def _wider_teacher(profile: str, dataset: str) -> bool:
    """In a first miniature of CIFAR, of 30 epochs, ResNet-50 was 5 points below ResNet-18. So in the miniature the
    teacher is the run of Table 1 of the student's own network, and the student is half as wide."""
    return profile == "mini" and profiles.family_of(dataset) == "cifar"


def student(profile: str, dataset: str, model: str, method: str, seed: int) -> RunSpec:
    """A training from scratch of the network that a teacher is distilled into: what distillation is compared with."""
    spec = supervised(profile, dataset, model, method, seed)
    half = replace(spec.budget, width=spec.budget.width / 2)
    return replace(spec, budget=half) if _wider_teacher(profile, dataset) else spec


def distilled(profile: str, dataset: str, model: str, method: str, seed: int) -> RunSpec:
    """A student of a deeper (in the miniature of CIFAR: wider) teacher of the same seed.

    The teacher is a baseline run, for cds_kd a CDS run. SSKD's teacher has a head that is trained in between, for a
    part of the epochs: 60 of 240 in its own code (CIFAR), 30 of 100 in torchdistill's (ImageNet). okd has no teacher.
    """
    spec = replace(student(profile, dataset, model, method, seed), setting="distill")
    if method == "okd":
        rampup = 80 / 300 * spec.budget.epochs  # its own code: 80 of 300 epochs
        return replace(spec, options={**spec.options, "rampup_epochs": rampup})
    network = model if _wider_teacher(profile, dataset) else TEACHERS[model]
    teacher = supervised(profile, dataset, network, "cds" if method == "cds_kd" else "baseline", seed)
    if method == "sskd":
        head = supervised(profile, dataset, network, "sskd_teacher", seed)
        part = shortened(head.budget, 4 if profiles.family_of(dataset) == "cifar" else 3)
        teacher = replace(head, setting="distill", budget=part, parent=teacher)
    return replace(spec, parent=teacher)


def shortened(budget: Budget, divisor: int) -> Budget:
    """The same schedule in a fraction of the epochs, tested at its end."""
    epochs = max(1, budget.epochs // divisor)
    milestones = budget.milestones and tuple(m // divisor for m in budget.milestones)
    return replace(budget, epochs=epochs, milestones=milestones, eval_every=max(1, budget.epochs // divisor))


def semi_supervised(profile: str, dataset: str, method: str, percent: int, seed: int) -> RunSpec:
    """A run of resnet18 that may use the labels of `percent` of the training images, class-balanced.

    The published protocol is not known; ours, in three forms:
    baseline          the labelled images alone, as many epochs over them as the full protocol has: fewer steps
    baseline_matched  the same with as many steps as a training on all images has
    cds_simclr        all images in random batches: cross-entropy of the labelled ones, contrastive loss without labels
    """
    spec = supervised(profile, dataset, "resnet18", method.removesuffix("_matched"), seed)
    budget = spec.budget if profile != "smoke" else replace(spec.budget, train_size=1_000, epochs=1)
    if method == "baseline_matched":
        factor = 100 / percent
        budget = replace(
            budget,
            epochs=round(budget.epochs * factor),
            eval_every=round(budget.eval_every * factor),
            warmup_epochs=round(budget.warmup_epochs * factor),
            milestones=budget.milestones and tuple(round(m * factor) for m in budget.milestones),
        )
    return replace(spec, setting=f"semi_{percent}", budget=budget, labelled=percent / 100)


# Where the method is applied: in pre-training on ImageNet, in fine-tuning, or in both.
FINETUNING = {"finetune": (True, True), "finetune_pretraining_only": (True, False), "finetune_only": (False, True)}


def finetuned(profile: str, dataset: str, model: str, method: str, setting: str, seed: int) -> RunSpec:
    """A network pre-trained on ImageNet (a run of Table 3, with max-pool), fine-tuned on a fine-grained set."""
    before, after = (method if applied else "baseline" for applied in FINETUNING[setting])
    parent = supervised(profile, "imagenet", model, before, seed)
    return replace(supervised(profile, dataset, model, after, seed), setting=setting, parent=parent)


def detector(profile: str, name: str, method: str, seed: int) -> RunSpec:
    """A detector on COCO whose backbone is the ResNet-50 of Table 3 (with max-pool) that `method` trained."""
    budget = profiles.budget(profile, "detection", "resnet50")
    if name == "retinanet":  # 0.01 against 0.02 in the 1x schedule; at its double a miniature diverged
        budget = replace(budget, lr=budget.lr / 2)
    options = profiles.detector_options(profile)
    parent = supervised(profile, "imagenet", "resnet50", method, seed)
    return RunSpec("coco", name, "detection", "detect", seed, budget, options, parent)


# The rows of the contrastive comparison that are trainings of their own: batch size and epochs as published. A
# miniature has batches of 64 (128 from 1,024 on) and 30 epochs (60 from 200 on), and SupCon there no AutoAugment.
CONTRASTIVE_ROWS = {
    "baseline_autoaugment": (4096, 270),
    "supcon": (6144, 350),
    "supcon_base_temperature": (6144, 350),
    "supcon_512": (512, 350),
    "supcon_100_epochs": (6144, 100),
    "byol": (1024, 1000),
    "cds_autoaugment": (256, 350),
}
_BYOL_FINETUNING = 80  # of the 1,080 published epochs, presumably (1000 is a preset of BYOL's own configuration)
_MINI_BYOL = {"hidden": 256, "dimensions": 64}


def contrastive(profile: str, row: str, seed: int) -> RunSpec:
    """A row of the comparison with contrastive methods, ResNet-50 on ImageNet; its name is the row's.

    supcon: contrastive pre-training of every stage but the classifier, then a linear classifier on the frozen network;
    supcon_base_temperature with the factor temperature / base temperature on its loss, as its own code has it.
    byol, byol_dsn: pre-training without labels, then fine-tuning on all labels, plain or with DSN. Learning rates are
    those of the methods' own code, scaled with the batch size: SupCon 0.5 at 1,024 (its CIFAR recipe: that for
    ImageNet is not known), BYOL 0.2 (LARS; taken as that of a batch of 256), plain training 0.1 at 256.
    """
    name = "byol" if row == "byol_dsn" else row
    spec = supervised(profile, "imagenet", "resnet50", name.split("_")[0], seed)
    budget = _stretched(spec.budget, profile, *CONTRASTIVE_ROWS[name])
    autoaugment = replace(budget, augmentation="imagenet_autoaugment")
    if name == "cds_autoaugment":
        return replace(spec, budget=autoaugment)
    cosine = {"schedule": "cosine", "milestones": None, "warmup_epochs": 10 if profile == "paper" else 1}
    if name == "baseline_autoaugment":
        lr = 0.1 * budget.batch_size / 256 if profile == "paper" else budget.lr
        return replace(spec, budget=replace(autoaugment, lr=lr, **cosine))
    if name.startswith("supcon"):
        lr = 0.5 * budget.batch_size / 1024
        # With AutoAugment so short a training of so small images does not leave its start: the loss stayed at that of
        # equal embeddings.
        augmentation = "contrastive" if profile == "mini" else "contrastive_autoaugment"
        before = replace(budget, lr=lr, augmentation=augmentation, **cosine)
        options = {"base_temperature": 0.07} if name == "supcon_base_temperature" else {}
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
    """A linear classifier on the frozen network of a pre-training: 100 epochs, batch 512, lr 5, no weight decay.

    In miniatures a third of the epochs and lr 0.01: with 5, in proportion to the batch, it diverged.
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


def lesson(method: str, seed: int) -> RunSpec:
    """A run of the first notebook: resnet18 on the ten-class stand-in; weight 1, as 0.1 does nothing in ten epochs."""
    options = profiles.method_options("smoke", "cifar", method)
    options |= {"weight": 1.0} if "weight" in options else {}
    return RunSpec("cifar10", "resnet18", method, "supervised", seed, profiles.LESSON, options)
