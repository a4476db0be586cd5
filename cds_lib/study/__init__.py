"""What is run and where it is kept: specs, tables, published numbers, claims, costs, the store. Needs no torch.

For a notebook: `from cds_lib.study import compare, open_study, paired, save, show, theme` (loaded on first use).
"""

from cds_lib.lazy import on_first_use

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
