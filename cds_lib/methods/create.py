"""The methods by their names in the study, and how one is built."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from cds_lib.cds import ContrastiveDeepSupervision
from cds_lib.errors import UsageError
from cds_lib.methods.at import AttentionTransfer
from cds_lib.methods.baseline import Baseline
from cds_lib.methods.byol import BYOL
from cds_lib.methods.cc import CorrelationCongruence
from cds_lib.methods.cds_kd import DistilledCDS
from cds_lib.methods.crd import ContrastiveRepresentationDistillation
from cds_lib.methods.detection import Detection
from cds_lib.methods.dks_dhm import MimickingBranches
from cds_lib.methods.dsn import DeeplySupervisedNet
from cds_lib.methods.kd import KnowledgeDistillation
from cds_lib.methods.linear import LinearClassifier
from cds_lib.methods.method import Method
from cds_lib.methods.okd import OnlineDistillation
from cds_lib.methods.rkd import RelationalDistillation
from cds_lib.methods.sp import SimilarityPreserving
from cds_lib.methods.sskd import SSKD, SSKDTeacher
from cds_lib.methods.supcon import SupervisedContrastive

# name in the study -> the class, and what is fixed of its options
METHODS: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "baseline": (Baseline, {}),
    "dsn": (DeeplySupervisedNet, {}),
    "dks": (MimickingBranches, {"layout": "dks"}),
    "dhm": (MimickingBranches, {"layout": "dhm"}),
    "cds": (ContrastiveDeepSupervision, {"use_labels": True}),
    "cds_simclr": (ContrastiveDeepSupervision, {"use_labels": False}),
    "kd": (KnowledgeDistillation, {}),
    "at": (AttentionTransfer, {}),
    "rkd": (RelationalDistillation, {}),
    "sp": (SimilarityPreserving, {}),
    "cc": (CorrelationCongruence, {}),
    "crd": (ContrastiveRepresentationDistillation, {}),
    "okd": (OnlineDistillation, {}),
    "sskd_teacher": (SSKDTeacher, {}),
    "sskd": (SSKD, {}),
    "cds_kd": (DistilledCDS, {}),
    "supcon": (SupervisedContrastive, {}),
    "byol": (BYOL, {}),
    "linear": (LinearClassifier, {}),
    "detection": (Detection, {}),
}


def create_method(
    name: str, backbone: nn.Module, num_classes: int, options: dict[str, Any], teacher: nn.Module | None = None
) -> Method:
    """Build the method called `name` in the study's tables around a backbone.

    Args:
        num_classes: for those that have classifiers of their own, or check the network's.
        options: arguments of the method's class, by name.
        teacher: a trained method or plain timm network, for those that distil one.

    Raises:
        UsageError: unknown name, options the method does not have, a teacher where none is needed, or the reverse.
    """
    if name not in METHODS:
        raise UsageError(f"Unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    method, fixed = METHODS[name]
    signature = inspect.signature(method)
    given = {"backbone": backbone, "num_classes": num_classes, "teacher": teacher}
    if teacher is not None and "teacher" not in signature.parameters:
        raise UsageError(f"Method {name!r} distils no teacher, but was given one.")
    given = {key: value for key, value in given.items() if key in signature.parameters}
    if "teacher" in given and teacher is None:
        raise UsageError(f"Method {name!r} distils a teacher: give it a trained one.")
    try:
        signature.bind(**given, **fixed, **options)
    except TypeError as error:
        raise UsageError(f"Method {name!r} does not take these options: {error}.") from error
    return method(**given, **fixed, **options)
