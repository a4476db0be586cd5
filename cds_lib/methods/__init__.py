"""Methods that supervise a network: one small class each, which owns the backbone, its extra heads and the loss.

`method.py` has their common base class. Several processes that train a run, each on its share of every batch, compute
the losses that one process would, with two exceptions. A batch norm uses the share of its own process unless it is
synchronised. The losses of CDS and distilled CDS that span a batch do so too, as released, unless they gather.
"""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
