"""Backbones, their stages, and the heads that are attached to them in training."""

from cds_lib.models.backbones import (
    MODEL_NAMES,
    STEMS,
    Taps,
    as_backbone,
    block_modules,
    create_backbone,
    forward_stages,
    initialise,
    pooled,
    pooled_and_logits,
    reinitialise,
    stage_taps,
)
from cds_lib.models.detectors import DETECTOR_NAMES, create_detector
from cds_lib.models.heads import SepConvHead, SepConvUnit, projection_heads

__all__ = [
    "DETECTOR_NAMES",
    "MODEL_NAMES",
    "STEMS",
    "SepConvHead",
    "SepConvUnit",
    "Taps",
    "as_backbone",
    "block_modules",
    "create_backbone",
    "create_detector",
    "forward_stages",
    "initialise",
    "pooled",
    "pooled_and_logits",
    "projection_heads",
    "reinitialise",
    "stage_taps",
]
