"""Export of a trained network for inference, to a file that timm can load."""

from pathlib import Path

import safetensors.torch
from torch import nn

from cds_lib.errors import UsageError
from cds_lib.files import replacing
from cds_lib.training import checkpoint


def export_backbone(model: nn.Module, path: Path | str) -> None:
    """Write the plain network of a method to a file, without heads, teacher or optimizer.

    The file holds a state dict on the CPU with the network's own names. Its format is safetensors if the path ends in
    .safetensors, otherwise PyTorch's, which loads with `weights_only=True`. The call

        timm.create_model(name, num_classes=..., checkpoint_path=path)

    builds a network with the same logits, if the trained one was built as `timm.create_model(name, num_classes=...)`
    builds it. The file is written completely or not at all; an existing file is replaced.

    Args:
        model: a method of `cds_lib.methods`, such as `ContrastiveDeepSupervision`, or a wrapper that holds a method as
            its `module` (DistributedDataParallel, timm's ModelEmaV3, torch's AveragedModel). Any mode, any device.
        path: file to write; missing folders are created. Any suffix except .npz and .npy, which timm reads differently.

    Raises:
        UsageError: if the module has no backbone, timm reads the suffix as another format, or the path is a folder.
    """
    from timm.utils import unwrap_model  # not at the top: `models.backbones` silences a warning of timm

    model = unwrap_model(model)
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise UsageError(f"{type(model).__name__} has no backbone to export: give the model that was trained.")
    write_weights(backbone.state_dict(), path)


def write_weights(weights: dict, path: Path | str) -> None:
    """Write a state dict as `export_backbone` does."""
    path = Path(path)
    if path.suffix in (".npz", ".npy"):
        raise UsageError(f"timm reads {path.name} as another format: let its name end in .pt or .safetensors.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file in it, such as network.pt.")
    # torch.compile adds a prefix to the names.
    plain = {name.replace("_orig_mod.", ""): value.detach().cpu() for name, value in weights.items()}
    if path.suffix == ".safetensors":  # as timm tells the formats, capitals included
        # Copies, because safetensors cannot store tensors that share memory, as some in a network may.
        content = safetensors.torch.save({name: value.contiguous().clone() for name, value in plain.items()})
        with replacing(path) as file:
            file.write(content)
    else:
        checkpoint.save(path, plain)
