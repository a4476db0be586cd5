"""Contrastive Deep Supervision (Zhang et al., ECCV 2022): the method as a library, the paper as an executable study.

`cds_lib.ContrastiveDeepSupervision` is the method, `cds_lib.export_backbone` writes the network it trained. Both are
imported on first use, so that reading results needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cds_lib.export import export_backbone
    from cds_lib.methods.cds import ContrastiveDeepSupervision

__version__ = "0.1.0"
__all__ = ["ContrastiveDeepSupervision", "export_backbone"]

_MODULES = {"ContrastiveDeepSupervision": "cds_lib.methods.cds", "export_backbone": "cds_lib.export"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'cds_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
