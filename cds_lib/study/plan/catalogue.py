"""The data sets, networks and methods of the study: names in runs, rows and commands, titles and hyper-parameters.

Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from cds_lib.errors import UsageError

if TYPE_CHECKING:
    from cds_lib.methods.method import Method as MethodClass

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class DataSet:
    """A data set. family: selects its budgets (`protocols`) and hyper-parameters; poster: name on the authors' poster.
    Its other properties are in `data/registry.toml`."""

    title: str
    family: str
    poster: str = ""


DATASETS = {
    "cifar10": DataSet("CIFAR-10", "cifar"),
    "cifar100": DataSet("CIFAR-100", "cifar"),
    "imagenet": DataSet("ImageNet", "imagenet"),
    "cub200": DataSet("CUB-200", "finetune", "CUB"),
    "stanford_cars": DataSet("Stanford Cars", "finetune", "Cars"),
    "flowers102": DataSet("Flowers-102", "finetune", "Flowers"),
    "stanford_dogs": DataSet("Stanford Dogs", "finetune", "Dogs"),
    "fgvc_aircraft": DataSet("FGVC-Aircraft", "finetune", "Aircrafts"),
    "coco": DataSet("COCO", "detection"),
}


@dataclass(frozen=True)
class Network:
    """mini_width: width in the miniature (None for a detector: its backbone has one); poster: name on the poster."""

    title: str
    mini_width: float | None
    poster: str = ""


# Each width is the largest of 1/4, 3/16, 1/8, 1/16 at which a baseline step takes at most 1.3 times that of resnet18 at
# 1/4, measured side by side; resnext101_32x8d takes 2.9 and wide_resnet101_2 1.8 times it even at 1/16.
NETWORKS = {
    "resnet18": Network("ResNet-18", 0.25, "RNT18"),
    "resnet34": Network("ResNet-34", 0.125, "RNT34"),
    "resnet50": Network("ResNet-50", 0.125, "RNT50"),
    "resnet101": Network("ResNet-101", 0.0625, "RNT101"),
    "resnext50_32x4d": Network("ResNeXt-50 (32x4d)", 0.0625, "RXT50"),
    "resnext101_32x8d": Network("ResNeXt-101 (32x8d)", 0.0625, "RXT101"),
    "wide_resnet50_2": Network("Wide ResNet-50-2", 0.0625, "WRN50"),
    "wide_resnet101_2": Network("Wide ResNet-101-2", 0.0625, "WRN101"),
    "seresnet18": Network("SE-ResNet-18", 0.1875, "SET18"),
    "seresnet50": Network("SE-ResNet-50", 0.0625, "SET50"),
    "preactresnet18": Network("PreAct ResNet-18", 0.25, "PAT18"),
    "faster_rcnn": Network("Faster R-CNN", None),
    "retinanet": Network("RetinaNet", None),
}


@dataclass(frozen=True)
class Method:
    """A method: what supervises a network.

    cls: its class, as "module.Class" below `cds_lib`; fixed: constructor arguments that make the class this method.
    colour: colour in figures; without one, a free colour is assigned.
    options: hyper-parameters from `source` that differ from the class defaults. They are overridden in this order by
    beyond_cifar (on data other than CIFAR), mini (in the miniature) and mini_cifar (in the miniature on CIFAR).
    uses_unlabelled: whether it also trains on unlabelled images in semi-supervised runs.
    """

    title: str
    cls: str
    source: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    colour: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    beyond_cifar: Mapping[str, Any] = field(default_factory=dict)
    mini: Mapping[str, Any] = field(default_factory=dict)
    mini_cifar: Mapping[str, Any] = field(default_factory=dict)
    uses_unlabelled: bool = False

    def load(self) -> type[MethodClass]:
        """Return the class; this imports torch."""
        module, _, name = self.cls.rpartition(".")
        return getattr(import_module(f"cds_lib.{module}"), name)


# mini_cifar: chosen by the search of the table `tuning` on validation images of CIFAR-100. mini: in an early, short
# trial (CIFAR-10, 4,000 images, one seed) weight 0.1 did less than weight 1; no other weight was tried.
_CDS = {"weight": 0.1, "temperature": 0.07, "taps": [1, 2, 3, 4]}
METHODS = {
    "baseline": Method("baseline", "methods.baseline.Baseline", "nothing to choose", colour="#444444"),
    "dsn": Method(
        "DSN",
        "methods.dsn.DeeplySupervisedNet",
        "heads: the author's own stack; weight: Lee et al.; the variant behind the published row is not known",
        colour="#0072B2",
        options={"weight": 1.0},
        mini_cifar={"weight": 3.0},
    ),
    "dks": Method(
        "DKS",
        "methods.dks_dhm.MimickingBranches",
        "released sundw2014/DKS: all weights and the temperature 1",
        fixed={"layout": "dks"},
        colour="#009E73",
        options={"weight": 1.0},
        mini_cifar={"weight": 3.0},
    ),
    "dhm": Method(
        "DHM",
        "methods.dks_dhm.MimickingBranches",
        "released d-li14/DHM: all weights and the temperature 1",
        fixed={"layout": "dhm"},
        colour="#CC79A7",
        options={"weight": 1.0},
        mini_cifar={"weight": 0.3},
    ),
    "cds": Method(
        "CDS",
        "cds.ContrastiveDeepSupervision",
        "released CIFAR/train.py and ImageNet/Contrastive_Deep_Supervision/main.py: weight per stage, four stages",
        fixed={"use_labels": True},
        colour="#D55E00",
        options=_CDS,
        mini={"weight": 1.0},
        mini_cifar={"weight": 3.0},
        uses_unlabelled=True,
    ),
    "cds_simclr": Method(
        "CDS (SimCLR loss)",
        "cds.ContrastiveDeepSupervision",
        "as cds, without labels",
        fixed={"use_labels": False},
        colour="#D55E00",
        options=_CDS,
        mini_cifar={"weight": 0.3},
        uses_unlabelled=True,
    ),
    # Distillation: each method's own defaults.
    "kd": Method(
        "KD",
        "methods.kd.KnowledgeDistillation",
        "HobbitLong/RepDistiller; on ImageNet torchdistill: temperature 1, half and half",
        beyond_cifar={"cross_entropy_weight": 0.5, "weight": 0.5, "temperature": 1.0},
    ),
    "at": Method("AT", "methods.at.AttentionTransfer", "HobbitLong/RepDistiller"),
    "rkd": Method("RKD", "methods.rkd.RelationalDistillation", "HobbitLong/RepDistiller"),
    "sp": Method("SP", "methods.sp.SimilarityPreserving", "HobbitLong/RepDistiller"),
    "cc": Method("CC", "methods.cc.CorrelationCongruence", "HobbitLong/RepDistiller"),
    "crd": Method("CRD", "methods.crd.ContrastiveRepresentationDistillation", "HobbitLong/RepDistiller"),
    "okd": Method("OKD", "methods.okd.OnlineDistillation", "the method's own code"),
    "sskd_teacher": Method("SSKD's teacher", "methods.sskd.SSKDTeacher", "the method's own code"),
    "sskd": Method(
        "SSKD",
        "methods.sskd.SSKD",
        "the method's own code; on ImageNet torchdistill",
        beyond_cifar={"cross_entropy_weight": 1.0, "kd_weight": 0.9, "rotated_weight": 2.7, "similarity_weight": 10.0},
    ),
    "cds_kd": Method(
        "CDS, distilled",
        "methods.cds_kd.DistilledCDS",
        "released CIFAR/distill.py, but with the teacher in eval mode; on ImageNet the released "
        "ImageNet/KD_Contrastive_Deep_Supervision/main.py",
        colour="#8C2D04",
        beyond_cifar={"weight": 0.5, "feature_weight": 0.5, "temperature": 1.0},
        mini={"weight": 1.0},
    ),
    # Contrastive pre-training, and the classifier trained on its features.
    "supcon": Method("SupCon", "methods.supcon.SupervisedContrastive", "HobbitLong/SupContrast"),
    "linear": Method("linear classifier", "methods.linear.LinearClassifier", "HobbitLong/SupContrast"),
    "byol": Method("BYOL", "methods.byol.BYOL", "the configuration of BYOL"),
    "detection": Method("detector", "methods.detection.Detection", "torchvision"),
}

# Groups that several tables compare.
TEN_NETWORKS = (
    *("resnet18", "resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "seresnet18", "seresnet50", "preactresnet18"),
)
IMAGENET_NETWORKS = ("resnet18", "resnet34", "resnet50")
DEEP_SUPERVISION = ("baseline", "dsn", "dks", "dhm", "cds")
DISTILLATION = ("kd", "at", "rkd", "sp", "cc", "crd", "okd", "sskd", "cds_kd")

SETTINGS = {
    "supervised": "from scratch",
    "supervised_no_max_pool": "without max-pool, as released",
    "distill": "distilled",
    "detect": "detection",
}


def family_of(dataset: str) -> str:
    """Return the family of a data set; UsageError if it is not in the catalogue."""
    return _entry(DATASETS, dataset, "DATASETS", "data set").family


def method(name: str) -> Method:
    """Return the entry of a method; UsageError if it is not in the catalogue."""
    return _entry(METHODS, name, "METHODS", "method")


def mini_width(model: str) -> float:
    """Return the width of a network in the miniature; UsageError if it has none."""
    width = _entry(NETWORKS, model, "NETWORKS", "network").mini_width
    if width is None:
        raise UsageError(f"{NETWORKS[model].title} has no width of its own: its backbone has one.")
    return width


def options(profile: str, family: str, name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a method under a profile, on data sets of a family."""
    found, mini, cifar = method(name), profile == "mini", family == "cifar"
    return {
        **found.options,
        **({} if cifar else found.beyond_cifar),
        **(found.mini if mini else {}),
        **(found.mini_cifar if mini and cifar else {}),
    }


def _entry(entries: Mapping[str, Entry], name: str, where: str, kind: str) -> Entry:
    if name not in entries:
        raise UsageError(
            f"The study has no {kind} {name!r}: choose one of {', '.join(entries)}, or add a line to {where} in "
            "cds_lib/study/plan/catalogue.py."
        )
    return entries[name]
