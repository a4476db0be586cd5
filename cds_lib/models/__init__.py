"""Backbones, their stages, and the heads that are attached to them in training."""

from cds_lib.models.backbones import (
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
from cds_lib.models.detectors import create_detector
from cds_lib.models.heads import projection_heads

__all__ = [
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
