"""Augmented views of whole batches, every image in its own way, on the device that trains."""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
