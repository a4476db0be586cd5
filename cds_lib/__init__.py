"""Contrastive Deep Supervision (Zhang et al., ECCV 2022): the method as a library, the paper as an executable study.

`cds_lib.CDS` is the method and `cds_lib.SupConLoss` its loss. `cds_lib.export_backbone` saves the trained network.
All names are imported on first use, so that reading results does not need torch.
"""

from cds_lib.lazy import on_first_use

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
