"""Batched augmentation into views, with random parameters for every image, on the training device."""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
