"""The two kinds of failure a user meets; each carries one sentence that says what is wrong and what to do."""


class UsageError(ValueError):
    """What was asked for cannot be done as asked. The command line prints the sentence and exits with code 2."""


class RunError(Exception):
    """A run or a notebook failed although it was asked for correctly: printed, recorded, exit code 1."""
