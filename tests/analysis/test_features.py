"""Block features equal timm's own stage features, and no hook is left behind in the network."""

import pytest
import timm
import torch

from cds_lib.analysis.features import extract
from cds_lib.models import block_modules, create_backbone, forward_stages, stage_taps

BLOCKS = dict.fromkeys(["resnet18", "seresnet18", "preactresnet18"], (2, 2, 2, 2)) | {"resnet50": (3, 4, 6, 3)}


@pytest.mark.parametrize("name", BLOCKS)
def test_last_block_of_a_stage_is_the_stage(name):
    torch.manual_seed(0)
    backbone = create_backbone(name, 5, width=0.0625)
    names = [f"{stage}.{block}" for stage, count in enumerate(BLOCKS[name], 1) for block in range(1, count + 1)]
    images = torch.randn(6, 3, 16, 16)
    features, logits = extract(backbone, images.split(4))
    assert list(features) == names == list(block_modules(backbone))
    backbone.eval()
    with torch.no_grad():
        maps, _ = forward_stages(backbone, images, stage_taps(backbone).indices)
        expected = backbone(images)
    torch.testing.assert_close(logits, expected)
    for stage, values in enumerate(maps, 1):
        found = features[f"{stage}.{BLOCKS[name][stage - 1]}"]
        torch.testing.assert_close(found, values.mean((2, 3)), msg=f"stage {stage}")


def test_mode_is_restored_and_no_hook_remains():
    backbone = create_backbone("resnet18", 5, width=0.0625).train()
    before = backbone.bn1.running_mean.clone()
    first, _ = extract(backbone, [torch.randn(4, 3, 16, 16)])
    assert backbone.training and torch.equal(backbone.bn1.running_mean, before)
    assert not any(module._forward_hooks for module in backbone.modules())
    with pytest.raises(RuntimeError):
        extract(backbone, [torch.randn(4, 1, 16, 16)])
    assert not any(module._forward_hooks for module in backbone.modules()) and backbone.training
    assert all(len(values) == 4 for values in first.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2, "embed_dim": 24}),
        ("vit_tiny_patch16_224", {"img_size": 32}),
    ],
)
def test_every_block_has_its_channels_whatever_the_layout_of_its_maps(name, options):
    """Swin returns channels-last maps; a vision transformer returns tokens, not maps."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=3, **options)
    features, logits = extract(backbone, [torch.randn(2, 3, options["img_size"], options["img_size"])])
    channels = [info["num_chs"] for info in backbone.feature_info]
    lasts = {int(block.split(".")[0]): values.shape[1] for block, values in features.items()}
    assert lasts == {stage: channels[stage - 1] for stage in lasts} and logits.shape == (2, 3)
