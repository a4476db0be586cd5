"""Deprecated alias of `cds_lib.cds`, which works until 2.0."""

from cds_lib.lazy import moved

__getattr__ = moved(__name__, "cds_lib.cds")
