"""What supervises a network: one small class a method, which owns the backbone, its extra heads and the loss.

Called in training as `method(*views, labels=labels)`, with as many views as its `views` says, a method returns its
named loss terms, already weighted, whose sum is to be minimised. `method.backbone` is the plain network that remains.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from cds_lib.errors import UsageError
from cds_lib.methods.baseline import Baseline
from cds_lib.methods.cds import ContrastiveDeepSupervision
from cds_lib.methods.dks_dhm import MimickingBranches
from cds_lib.methods.dsn import DeeplySupervisedNet


def create_method(name: str, backbone: nn.Module, num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Build the method called `name` in the study's tables around a backbone.

    Raises:
        UsageError: unknown name, or options the method does not have.
    """
    try:
        if name == "baseline":
            return Baseline(backbone, **options)
        if name == "dsn":
            return DeeplySupervisedNet(backbone, num_classes, **options)
        if name in ("dks", "dhm"):
            return MimickingBranches(backbone, num_classes, layout=name, **options)
        if name in ("cds", "cds_simclr"):
            return ContrastiveDeepSupervision(backbone, num_classes, use_labels=name == "cds", **options)
    except TypeError as error:
        raise UsageError(f"Method {name!r} does not take these options: {error}.") from error
    raise UsageError(f"Unknown method {name!r}: choose one of baseline, dsn, dks, dhm, cds, cds_simclr.")


__all__ = ["Baseline", "ContrastiveDeepSupervision", "DeeplySupervisedNet", "MimickingBranches", "create_method"]
