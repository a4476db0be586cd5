"""The study: what is run, where it is kept, how it becomes a table. Reading results needs no torch."""

from cds_lib.study.session import open_study

__all__ = ["open_study"]
