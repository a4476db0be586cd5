"""Build supervised, distilled and semi-supervised runs from the catalogue and a protocol. Runs that only one table
trains (detectors, fine-tuning, contrastive pre-training) are built in the file of that table.

A run is built for one profile and seed; its parents are the runs that it starts from.
"""

from dataclasses import replace

from cds_lib.study.plan import catalogue, protocols
from cds_lib.study.plan.spec import Budget, RunSpec

# The released stem never calls its max-pool.
NO_MAX_POOL = "imagenet_no_max_pool"


def supervised(profile: str, dataset: str, model: str, method: str, seed: int = 0, stem: str | None = None) -> RunSpec:
    """Return a run that trains from scratch. `stem` (such as `NO_MAX_POOL`) replaces the stem of the budget."""
    family = catalogue.family_of(dataset)
    budget = protocols.budget(profile, family, model)
    options = catalogue.options(profile, family, method)
    return RunSpec(dataset, model, method, "supervised", seed, replace(budget, stem=stem or budget.stem), options)


# Student -> teacher. On CIFAR it is the teacher of the released `CIFAR/distill.py`. On ImageNet no row's teacher is
# known: ours is the released script's ResNet-50 if that is deeper than the student, else the next deeper network.
TEACHERS = {"resnet18": "resnet50", "resnet34": "resnet50", "resnet50": "resnet101"}


def _wider_teacher(profile: str, dataset: str) -> bool:
    """Return whether the teacher is the Table 1 run of the student's own network, with a student half as wide. This is
    so in the miniature on CIFAR: in a first one, of 30 epochs, ResNet-50 was 5 points below ResNet-18."""
    return profile == "mini" and catalogue.family_of(dataset) == "cifar"


def student(profile: str, dataset: str, model: str, method: str, seed: int = 0) -> RunSpec:
    """Return a run that trains the student network from scratch: what distillation is compared with."""
    spec = supervised(profile, dataset, model, method, seed)
    half = replace(spec.budget, width=spec.budget.width / 2)
    return replace(spec, budget=half) if _wider_teacher(profile, dataset) else spec


def distilled(profile: str, dataset: str, model: str, method: str, seed: int = 0) -> RunSpec:
    """Return the run of a student with a deeper (in the miniature on CIFAR: wider) teacher of the same seed.

    The teacher is a baseline run, for cds_kd a CDS run. SSKD trains a head on its teacher in between, for a part of the
    epochs: 60 of 240 in its own code (CIFAR), 30 of 100 in torchdistill (ImageNet). okd has no teacher.
    """
    spec = replace(student(profile, dataset, model, method, seed), setting="distill")
    if method == "okd":
        rampup = 80 / 300 * spec.budget.epochs  # in OKD's own code: 80 of 300 epochs
        return replace(spec, options={**spec.options, "rampup_epochs": rampup})
    network = model if _wider_teacher(profile, dataset) else TEACHERS[model]
    teacher = supervised(profile, dataset, network, "cds" if method == "cds_kd" else "baseline", seed)
    if method == "sskd":
        head = supervised(profile, dataset, network, "sskd_teacher", seed)
        part = shortened(head.budget, 4 if catalogue.family_of(dataset) == "cifar" else 3)
        teacher = replace(head, setting="distill", budget=part, parent=teacher)
    return replace(spec, parent=teacher)


def shortened(budget: Budget, divisor: int) -> Budget:
    """Return the same schedule in 1 / divisor of the epochs, tested only at its end."""
    epochs = max(1, budget.epochs // divisor)
    milestones = budget.milestones and tuple(m // divisor for m in budget.milestones)
    return replace(budget, epochs=epochs, milestones=milestones, eval_every=epochs)


def semi_supervised(profile: str, dataset: str, method: str, percent: int, seed: int = 0) -> RunSpec:
    """Return a run of resnet18 that may use the labels of `percent` % of the training images, class-balanced.

    The published protocol is not known. Ours has three forms:
    baseline          the labelled images alone, for as many epochs as the full protocol, hence with fewer steps
    baseline_matched  the labelled images alone, for as many steps as a training on all images
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
