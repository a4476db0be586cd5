"""A trained network without its training: what is left for inference, in a file that timm loads."""

from pathlib import Path

import safetensors.torch
from torch import nn

from cds_lib.errors import UsageError
from cds_lib.files import replacing
from cds_lib.training import checkpoint


def export_backbone(model: nn.Module, path: Path | str) -> None:
    """Write the plain network of a method to a file, without heads, teacher or optimizer.

    The file is a state dict on the CPU with the network's own names, in the safetensors format if the path ends in
    .safetensors, else PyTorch's, which loads with `weights_only=True`:

        timm.create_model(name, num_classes=..., checkpoint_path=path)

    gives the same logits, if the network was built as `timm.create_model(name, num_classes=...)` builds it. It is
    complete or not written at all; an existing file is replaced.

    Args:
        model: a method of `cds_lib.methods`, such as `ContrastiveDeepSupervision`, or a wrapper that has one as its
            `module`: DistributedDataParallel, timm's ModelEmaV3, torch's AveragedModel; in any mode, on any device.
        path: of the file; folders are made. Any ending but those that timm reads otherwise.

    Raises:
        UsageError: a module without a backbone, an ending that timm reads as another format, or a folder.
    """
    from timm.utils import unwrap_model  # not at the top: see `models.backbones`, which imports timm without a warning

    model = unwrap_model(model)
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise UsageError(f"{type(model).__name__} has no backbone to export: give the model that was trained.")
    write_weights(backbone.state_dict(), path)


def write_weights(weights: dict, path: Path | str) -> None:
    """Write a state dict as `export_backbone` does."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending in (".npz", ".npy"):
        raise UsageError(f"timm reads {path.name} as another format: let its name end in .pt or .safetensors.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file in it, such as network.pt.")
    # A compiled network has names of its own.
    plain = {name.replace("_orig_mod.", ""): value.detach().cpu() for name, value in weights.items()}
    if ending == ".safetensors":
        # Copies: the format holds no tensors that share memory, as some of a network may.
        content = safetensors.torch.save({name: value.contiguous().clone() for name, value in plain.items()})
        with replacing(path) as file:
            file.write(content)
    else:
        checkpoint.save(path, plain)
