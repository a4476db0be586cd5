"""The methods, which supervise a network: one small class each, which owns the backbone, its extra heads and the loss.

What they have in common is in `method.py`. Where several processes train a run, each with its share of every batch, a
method computes what one process would, except CDS, which contrasts a process's own images, as released, unless it is
told to gather.
"""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
