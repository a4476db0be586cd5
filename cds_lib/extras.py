"""Optional dependencies, which are not installed with the library alone."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Wrap the imports of an extra of this package; a missing one raises an ImportError of one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = f"{error.name} is not installed: pip install 'cds-study[{name}]' (in a checkout '.[{name}]')."
        raise ImportError(sentence, name=error.name) from None
