"""How a run is built from the catalogue and a protocol: supervised, distilled, semi-supervised. What a single table
trains otherwise (detectors, fine-tuning, contrastive pre-training) is in the file of that table.

Every function gives a run under one profile and seed; runs that it starts from are its parents.
"""

from dataclasses import replace

from cds_lib.study.plan import catalogue, protocols
from cds_lib.study.plan.spec import Budget, RunSpec

# The stem as released never calls its max-pool.
NO_MAX_POOL = "imagenet_no_max_pool"


def supervised(profile: str, dataset: str, model: str, method: str, seed: int = 0, stem: str | None = None) -> RunSpec:
    """A training from scratch. `stem` replaces the one of the budget (`NO_MAX_POOL`)."""
    family = catalogue.family_of(dataset)
    budget = protocols.budget(profile, family, model)
    options = catalogue.options(profile, family, method)
    return RunSpec(dataset, model, method, "supervised", seed, replace(budget, stem=stem or budget.stem), options)


# A student's teacher. On CIFAR that of the released `CIFAR/distill.py`. On ImageNet no row's teacher is known: ours is
# the released script's ResNet-50 where it is deeper than the student, else the next deeper network.
TEACHERS = {"resnet18": "resnet50", "resnet34": "resnet50", "resnet50": "resnet101"}


def _wider_teacher(profile: str, dataset: str) -> bool:
    """In a first miniature of CIFAR, of 30 epochs, ResNet-50 was 5 points below ResNet-18. So in the miniature the
    teacher is the run of Table 1 of the student's own network, and the student is half as wide."""
    return profile == "mini" and catalogue.family_of(dataset) == "cifar"


def student(profile: str, dataset: str, model: str, method: str, seed: int = 0) -> RunSpec:
    """A training from scratch of the network that a teacher is distilled into: what distillation is compared with."""
    spec = supervised(profile, dataset, model, method, seed)
    half = replace(spec.budget, width=spec.budget.width / 2)
    return replace(spec, budget=half) if _wider_teacher(profile, dataset) else spec


def distilled(profile: str, dataset: str, model: str, method: str, seed: int = 0) -> RunSpec:
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
        part = shortened(head.budget, 4 if catalogue.family_of(dataset) == "cifar" else 3)
        teacher = replace(head, setting="distill", budget=part, parent=teacher)
    return replace(spec, parent=teacher)


def shortened(budget: Budget, divisor: int) -> Budget:
    """The same schedule in a fraction of the epochs, tested at its end."""
    epochs = max(1, budget.epochs // divisor)
    milestones = budget.milestones and tuple(m // divisor for m in budget.milestones)
    return replace(budget, epochs=epochs, milestones=milestones, eval_every=epochs)


def semi_supervised(profile: str, dataset: str, method: str, percent: int, seed: int = 0) -> RunSpec:
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
