"""Eval mode for the length of a block."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode until the block ends, well or not; then all of it is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        network.train(modes[0][1])  # also what a method holds outside its modules, as a teacher
        for module, training in modes:  # one by one: a frozen batch norm was in eval mode
            module.training = training
