"""Backbones, their stages, and the heads that are attached to them in training."""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
