"""The errors of the library. Each says in one sentence what is wrong and what to do."""

from cds_lib.lazy import moved


class UsageError(ValueError):
    """An argument cannot be what it is. The study's command line prints the sentence and exits with code 2."""


class TrainingError(RuntimeError):
    """A training cannot go on: a loss is not finite, or the checkpoint that it would go on from is damaged."""


__getattr__ = moved(__name__, "cds_lib.study.errors")
