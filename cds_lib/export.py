"""A trained network without its training: what is left for inference, in a file that timm loads."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from cds_lib.errors import UsageError
from cds_lib.training import checkpoint


def export_backbone(model: nn.Module, path: Path | str) -> None:
    """Write the plain network of a method to a file, without heads, teacher or optimizer.

    The file is a PyTorch state dict on the CPU, with the network's own names, and loads with `weights_only=True`:

        timm.create_model(name, num_classes=..., checkpoint_path=path)

    gives the same logits, if the network was built as `timm.create_model(name, num_classes=...)` builds it. It is
    complete or not written at all; a file that was there is replaced.

    Args:
        model: a method of `cds_lib.methods`, such as `ContrastiveDeepSupervision`; in any mode, on any device.
        path: of the file; folders are made. Its name ends as you like, but for those endings that timm reads otherwise.

    Raises:
        UsageError: a module without a backbone, an ending that timm reads as another format, or a folder.
    """
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        raise UsageError(f"{type(model).__name__} has no backbone to export: give the model that was trained.")
    write_weights(model.backbone.state_dict(), path)


def write_weights(weights: dict, path: Path | str) -> None:
    """Write a state dict as `export_backbone` does."""
    if Path(path).suffix.lower() in (".safetensors", ".npz", ".npy"):
        raise UsageError(f"timm would read {Path(path).name} as another format: let the name end in .pt.")
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file in it, such as network.pt.")
    # A compiled network has names of its own.
    plain = {name.replace("_orig_mod.", ""): value.detach().cpu() for name, value in weights.items()}
    checkpoint.save(Path(path), plain)
