"""Methods that supervise a network: one small class each, which owns the backbone, its extra heads and the loss.

`method.py` has their common base class. If several processes train a run, each on its share of every batch, its losses
are those of one process, except that batch norms use their own share unless they are synchronised, and that CDS
contrasts the images of each process among themselves, as released, unless it is told to gather.
"""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
