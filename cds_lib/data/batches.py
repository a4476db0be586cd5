"""Moved to `cds_lib.augment`; works until 2.0."""

from cds_lib.lazy import moved

__getattr__ = moved(__name__, "cds_lib.augment.batches", "cds_lib.augment.views")
