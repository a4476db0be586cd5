"""From a run's spec to its network and method, untrained. torch is imported when one is built: specs do without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cds_lib.study.spec import RunSpec

if TYPE_CHECKING:
    from torch import nn

    from cds_lib.methods.method import Method


def backbone(spec: RunSpec, classes: int) -> nn.Module:
    """The run's classification network."""
    from cds_lib.models import create_backbone

    return create_backbone(spec.model, classes, stem=spec.budget.stem, width=spec.budget.width)


def classifier(spec: RunSpec, classes: int) -> Method:
    """The run's method around its network; a teacher is as untrained as itself."""
    from cds_lib.methods import create_method

    network = backbone(spec, classes)
    teacher = classifier(spec.teacher, classes) if spec.teacher else None
    return create_method(spec.method, network, classes, spec.options, teacher)


def detector(spec: RunSpec, network: nn.Module, classes: int) -> Method:
    """The run's detector on `network`, a `backbone` of its parent."""
    from cds_lib.methods import create_method
    from cds_lib.models import create_detector

    built = create_detector(spec.model, network, classes, min_size=spec.budget.image_size, **spec.options)
    return create_method(spec.method, built, classes, {})
