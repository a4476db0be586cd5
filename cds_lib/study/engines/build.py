"""Build the untrained network and method of a run from its spec. torch is imported only when one is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cds_lib.errors import UsageError
from cds_lib.study.plan import catalogue
from cds_lib.study.plan.spec import RunSpec

if TYPE_CHECKING:
    from torch import nn

    from cds_lib.methods.method import Method


def create_method(
    name: str, backbone: nn.Module, num_classes: int, options: Mapping[str, Any], teacher: nn.Module | None = None
) -> Method:
    """Build the method that the catalogue calls `name` around a backbone.

    Args:
        num_classes: for methods that have classifiers of their own, or check the network's.
        options: arguments of the method's class, by name.
        teacher: a trained method or plain timm network, for methods that distil one.

    Raises:
        UsageError: unknown name, options the method does not have, a teacher not needed, or needed but missing.
    """
    entry = catalogue.method(name)
    method = entry.load()
    signature = inspect.signature(method)
    given = {"backbone": backbone, "num_classes": num_classes, "teacher": teacher}
    if teacher is not None and "teacher" not in signature.parameters:
        raise UsageError(f"Method {name!r} distils no teacher, but was given one.")
    given = {key: value for key, value in given.items() if key in signature.parameters}
    if "teacher" in given and teacher is None:
        raise UsageError(f"Method {name!r} distils a teacher: give it a trained one.")
    try:
        signature.bind(**given, **entry.fixed, **options)
    except TypeError as error:
        raise UsageError(f"Method {name!r} does not take these options: {error}.") from error
    return method(**given, **entry.fixed, **options)


def backbone(spec: RunSpec, classes: int) -> nn.Module:
    """Build the run's classification network."""
    from cds_lib.models import create_backbone

    return create_backbone(spec.model, classes, stem=spec.budget.stem, width=spec.budget.width)


def classifier(spec: RunSpec, classes: int) -> Method:
    """Build the run's method around its network, untrained; a teacher is untrained too."""
    network = backbone(spec, classes)
    teacher = classifier(spec.teacher, classes) if spec.teacher else None
    return create_method(spec.method, network, classes, spec.options, teacher)


def detector(spec: RunSpec, network: nn.Module, classes: int) -> Method:
    """Build the run's detector on `network`, a `backbone` of its parent."""
    from cds_lib.models import create_detector

    built = create_detector(spec.model, network, classes, min_size=spec.budget.image_size, **spec.options)
    return create_method(spec.method, built, classes, {})
