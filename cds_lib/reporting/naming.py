"""How methods, networks, data sets and settings are called for people; files and commands have short names."""

from __future__ import annotations

import re
from collections.abc import Iterable

DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "cub200": "CUB-200",
    "stanford_cars": "Stanford Cars",
    "flowers102": "Flowers-102",
    "stanford_dogs": "Stanford Dogs",
    "fgvc_aircraft": "FGVC-Aircraft",
    "coco": "COCO",
}
NETWORKS = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnext50_32x4d": "ResNeXt-50 (32x4d)",
    "resnext101_32x8d": "ResNeXt-101 (32x8d)",
    "wide_resnet50_2": "Wide ResNet-50-2",
    "wide_resnet101_2": "Wide ResNet-101-2",
    "seresnet18": "SE-ResNet-18",
    "seresnet50": "SE-ResNet-50",
    "preactresnet18": "PreAct ResNet-18",
    "faster_rcnn": "Faster R-CNN",
    "retinanet": "RetinaNet",
}
SETTINGS = {
    "supervised": "from scratch",
    "supervised_no_max_pool": "without max-pool, as released",
    "distill": "distilled",
    "finetune": "in pre-training and fine-tuning",
    "finetune_pretraining_only": "in pre-training only",
    "finetune_only": "in fine-tuning only",
    "detect": "detection",
}
METHODS = {
    "baseline": "baseline",
    "dsn": "DSN",
    "dks": "DKS",
    "dhm": "DHM",
    "cds": "CDS",
    "baseline_matched": "baseline, as many steps",
    "cds_simclr": "CDS (SimCLR loss)",
    "cds_kd": "CDS, distilled",
    "baseline_autoaugment": "baseline, AutoAugment",
    "supcon": "SupCon",
    "supcon_base_temperature": "SupCon, loss × 0.1/0.07",
    "supcon_512": "SupCon, smaller batch",
    "supcon_100_epochs": "SupCon, fewer epochs",
    "byol_dsn": "BYOL + DSN",
    "cds_autoaugment": "CDS, AutoAugment",
    "baseline_two_views": "baseline, cross-entropy of two views",
    "baseline_with_cutout": "baseline, with Cutout",
    "baseline_without_cutout": "baseline, without Cutout",
    "cds_with_cutout": "CDS, with Cutout",
    "cds_without_cutout": "CDS, without Cutout",
    "cds_two_ce_views": "CDS, cross-entropy of both views",
    "cds_two_ce_views_weight_tenth": "CDS, cross-entropy of both views, weight × 1/10",
    "cds_three_taps": "CDS, taps 1 to 3",
    "cds_weight_tenth": "CDS, weight × 1/10",
    "cds_weight_third": "CDS, weight × 1/3",
    "cds_weight_triple": "CDS, weight × 3",
    "cds_temperature_0.1": "CDS, temperature 0.1",
    "cds_temperature_0.2": "CDS, temperature 0.2",
    "cds_temperature_0.5": "CDS, temperature 0.5",
    "cds_kd_teacher_train": "CDS, distilled, teacher in train mode",
    "cds_kd_mse": "CDS, distilled, mean square, same weight",
    "cds_kd_mse_matched": "CDS, distilled, mean square, matched weight",
}


def method_name(method: str) -> str:
    """How a method is called in tables and legends."""
    if method not in METHODS and (candidate := re.fullmatch(r"(\w+?)_(lr|weight)_([\d.]+)", method)):
        searched, option, value = candidate.groups()
        return f"{method_name(searched)}, {'learning rate' if option == 'lr' else option} {value}"
    return METHODS.get(method, method.upper())


def name_of(name: str) -> str:
    """Of a data set, a network or a setting: `CIFAR-100`, `ResNet-18`, `10 % labelled`; another name is its own."""
    if name.startswith("tuning_"):
        return method_name(name.removeprefix("tuning_"))
    if name.startswith("semi_"):
        return f"{name.removeprefix('semi_')} % labelled"
    return (DATASETS | NETWORKS | SETTINGS).get(name, name)


def group_title(names: Iterable[str]) -> str:
    """The heading of a group of rows: `CIFAR-100, ResNet-18, 10 % labelled`."""
    return ", ".join(name_of(str(name)) for name in names)
