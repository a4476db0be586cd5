"""The pooled features of every block of a network, from one pass over the images."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cds_lib.evaluation.mode import evaluating
from cds_lib.models import block_modules


@torch.inference_mode()
def extract(backbone: nn.Module, batches: Iterable[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return block features and logits from one pass over all images in eval mode; the mode is restored afterwards.

    Args:
        backbone: a timm network that reports its stages.
        batches: normalised images (B, 3, S, S) on the network's device.

    Returns:
        {block: (N, C) float32}, the map of every block averaged over its positions, with blocks named and ordered as in
        `block_modules`; and the logits (N, classes) float32. Both are on the network's device.
    """
    blocks = block_modules(backbone)
    found: dict[str, list[Tensor]] = {name: [] for name in blocks}
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"  # such as Swin

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        # The mean is taken here, because a later block may change the map in place.
        return lambda module, inputs, output: found[name].append(_pooled(output.float(), channels_last))

    hooks = [module.register_forward_hook(keep(name)) for name, module in blocks.items()]
    try:
        with evaluating(backbone):
            logits = torch.cat([backbone(images).float() for images in batches])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}, logits


def _pooled(output: Tensor, channels_last: bool) -> Tensor:
    """Return (B, C): the mean over the positions of a map, or over the tokens (B, N, C) of a transformer."""
    if output.ndim == 3:
        return output.mean(1)
    return output.mean((1, 2) if channels_last else (2, 3))
