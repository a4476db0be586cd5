"""Packages that are not installed with the library alone."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports that an extra of this package brings: ImportError, one sentence, if one of them is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = f"{error.name} is not installed: pip install 'cds-study[{name}]' (in a checkout '.[{name}]')."
        raise ImportError(sentence, name=error.name) from None
