"""Contrastive Deep Supervision (Zhang et al., ECCV 2022): the method as a library, the paper as an executable study.

`cds_lib.ContrastiveDeepSupervision` is the method; it is imported on first use, so that reading results needs no torch.
"""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cds_lib.methods.cds import ContrastiveDeepSupervision

# timm's imports say so in every notebook; the study's progress lines need no widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
__all__ = ["ContrastiveDeepSupervision"]


def __getattr__(name: str) -> Any:
    if name == "ContrastiveDeepSupervision":
        from cds_lib.methods.cds import ContrastiveDeepSupervision

        return ContrastiveDeepSupervision
    raise AttributeError(f"module 'cds_lib' has no attribute {name!r}")
