"""A context manager for eval mode."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for a block, then restore the mode of all its modules, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        network.train(modes[0][1])  # also what a method holds outside its modules, such as a teacher
        for module, training in modes:  # one by one: a frozen batch norm was in eval mode
            module.training = training
