"""The exceptions of the library. Each message says in one sentence what is wrong and what to do."""

from cds_lib.lazy import moved


class UsageError(ValueError):
    """An argument is invalid. The study's command line prints the message and exits with code 2."""


class TrainingError(RuntimeError):
    """Training cannot continue: a loss is not finite, or the checkpoint to resume from cannot be used."""


__getattr__ = moved(__name__, "cds_lib.study.errors")
