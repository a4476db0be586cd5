"""DKS and DHM: auxiliary branches of residual stages that mimic one another and the network."""

import copy
from typing import Any

import torch
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from cds_lib.errors import UsageError
from cds_lib.losses import at_least_float32, cross_entropy, mimicry_loss
from cds_lib.methods.method import Method
from cds_lib.models import forward_stages, pooled_and_logits, reinitialise, stage_taps
from cds_lib.models.backbones import stage_module


class MimickingBranches(Method):
    """DKS or DHM: cross-entropies of the network and two branches, plus KL terms between all three classifiers.

        loss = cross-entropy + weight * (cross-entropies of both branches + mimicry_loss)

    Deeply-supervised knowledge synergy and dynamic hierarchical mimicking are one algorithm as released: with all
    weights and the temperature 1 their losses coincide. Here they differ in `layout`, the number of blocks in the
    branches:

        branch 1, after stage 2: a stage like stage 3, then a stage like stage 4
        branch 2, after stage 3: a stage like stage 4 of twice the width, with all its blocks

    - "dks": branch 1 has all blocks of stage 3 and half of those of stage 4, rounded down, but at least one. This rule
      is from the only training code that DKS has released (WRN-28-10, three stages), applied to the last two of four.
    - "dhm": branch 1 has half of the blocks of stage 3, rounded up, and two of stage 4. These are the counts of DHM's
      released ImageNet networks: [1, 2], [2] for ResNet-18, [3, 2], [3] for -34 and -50, [12, 2], [3] for -101.

    Both releases double the width in branch 2, so both layouts do. Neither covers ResNeXt, wide, SE or pre-activation
    networks, or a CIFAR stem with four stages; these get the counts of the ResNet of equal depth. Each branch has the
    backbone's kind of blocks, freshly initialised, then (pre-activation) its own final norm, average pooling and its
    own linear layer. A branch shares no parameter with the backbone or with the other branch.

    Args:
        backbone: a network from `create_backbone`, or another timm ResNet or ResNetV2 of convolutions and batch norms.
        num_classes: number of classes of the branches' classifiers.
        layout: "dks" or "dhm".
        weight: weight of all terms that the branches add; 1 as released.

    Raises:
        UsageError: if the network is of another kind or the layout is unknown.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, layout: str, weight: float = 1.0):
        super().__init__()
        taps = stage_taps(backbone)
        if not isinstance(backbone, ResNet | ResNetV2):
            raise UsageError(f"DKS and DHM need a timm ResNet or ResNetV2, not {type(backbone).__name__}.")
        if layout not in ("dks", "dhm"):
            raise UsageError(f"The layout of the branches must be dks or dhm, not {layout!r}.")
        self.backbone = backbone
        self.weight = weight
        self.indices = taps.indices[1:3]
        self.branches = _residual_branches(backbone, taps.indices[2:], layout)
        reinitialise(self.branches)
        self.classifiers = nn.ModuleList(nn.Linear(width * taps.pooled, num_classes) for width in (1, 2))

    def losses(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return "cross_entropy", "cross_entropy_<branch>", ... and "mimicry" for view (B, 3, S, S) and labels (B,)."""
        maps, features = forward_stages(self.backbone, view, self.indices)
        outputs = [pooled_and_logits(self.backbone, features)[1]]
        for stage, branch, classifier in zip(maps, self.branches, self.classifiers, strict=True):
            outputs.append(classifier(branch(stage)))
        logits = at_least_float32(torch.stack(outputs))  # (3, B, num_classes)
        cross_entropies = [cross_entropy(one, labels) for one in logits]
        return {
            "cross_entropy": cross_entropies[0],
            "cross_entropy_1": self.weight * cross_entropies[1],
            "cross_entropy_2": self.weight * cross_entropies[2],
            "mimicry": self.weight * mimicry_loss(logits),
        }


def _residual_branches(backbone: nn.Module, indices: tuple[int, ...], layout: str) -> nn.ModuleList:
    """Build the two branches of a layout, each pooled to one vector per image; they are not initialised yet."""
    third, fourth = (_blocks(backbone, index) for index in indices)
    counts = (len(third), max(1, len(fourth) // 2)) if layout == "dks" else ((len(third) + 1) // 2, 2)
    norm = backbone.norm if isinstance(backbone, ResNetV2) else nn.Identity()
    end = (norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    branches = (nn.Sequential(*third[: counts[0]], *fourth[: counts[1]], *end), nn.Sequential(*fourth, *end))
    copies = nn.ModuleList(copy.deepcopy(branch) for branch in branches)
    _double_width(copies[1])
    return copies


def _blocks(backbone: nn.Module, index: int) -> list[nn.Module]:
    stage: Any = stage_module(backbone, index)
    return list(stage.blocks if isinstance(backbone, ResNetV2) else stage)


def _double_width(branch: nn.Module) -> None:
    """Double all channels of a one-stage branch in place, except its input. Groups widen; their number stays."""
    for block_name, block in branch.named_children():
        for name, layer in block.named_modules():
            # Layers that read the branch's input: shortcut, first convolution and (pre-activation) the norm before it.
            first = block_name == "0" and (name in ("norm1", "conv1") or name.startswith("downsample."))
            if isinstance(layer, nn.Conv2d):
                layer.in_channels *= 1 if first else 2
                layer.out_channels *= 2
                shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
                layer.weight = nn.Parameter(layer.weight.new_empty(shape))
                if layer.bias is not None:
                    layer.bias = nn.Parameter(layer.bias.new_empty(layer.out_channels))
            elif isinstance(layer, nn.BatchNorm2d) and not (first and name == "norm1"):
                layer.num_features *= 2
                for key in ("weight", "bias"):
                    setattr(layer, key, nn.Parameter(getattr(layer, key).new_empty(layer.num_features)))
                for key in ("running_mean", "running_var"):
                    setattr(layer, key, getattr(layer, key).new_empty(layer.num_features))
            elif not isinstance(layer, nn.BatchNorm2d) and next(layer.parameters(recurse=False), None) is not None:
                raise UsageError(f"DKS and DHM cannot widen a {type(layer).__name__}; use another ResNet.")
