"""Contrastive deep supervision on networks of other families: stages, a few steps, and the network afterwards."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from cds_lib import ContrastiveDeepSupervision
from cds_lib.errors import UsageError
from cds_lib.methods import DistilledCDS
from cds_lib.models import forward_stages, stage_taps
from toys import generator, without_gradient

SMALL_VIT = {"img_size": 48, "depth": 4}
SMALL_SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}
# Name -> more arguments for timm, image size (height, width), resolutions of the taps.
NETWORKS = {
    "test_resnet": ({}, (65, 71), [(17, 18), (9, 9), (5, 5), (3, 3)]),
    "convnext_atto": ({}, (65, 71), [(16, 17), (8, 8), (4, 4), (2, 2)]),
    "mobilenetv3_small_050": ({}, (65, 71), [(17, 18), (9, 9), (5, 5), (3, 3)]),
    "test_efficientnet": ({}, (65, 71), [(17, 18), (9, 9), (5, 5), (3, 3)]),
    "regnetx_002": ({}, (65, 71), [(17, 18), (9, 9), (5, 5), (3, 3)]),
    "vit_tiny_patch16_224": (SMALL_VIT, (48, 48), [(3, 3)] * 4),
    "swin_tiny_patch4_window7_224": (SMALL_SWIN, (64, 64), [(16, 16), (8, 8), (4, 4), (2, 2)]),
}
LABELS = torch.tensor([1, 0])


def make(name, classes=3):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=classes, **NETWORKS[name][0])


def images(name, count):
    return torch.randn(count, 3, *NETWORKS[name][1], generator=generator(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_steps_and_the_network_that_remains(name):
    backbone, untouched = make(name), make(name).state_dict()
    model = ContrastiveDeepSupervision(backbone, num_classes=3)
    assert all(torch.equal(value, untouched[key]) for key, value in backbone.state_dict().items())
    assert model.taps == (1, 2, 3, 4) and list(model.heads) == ["1", "2", "3"]

    maps, _ = forward_stages(backbone, images(name, 2), model.indices)
    assert [tuple(m.shape[2:]) for m in maps] == NETWORKS[name][2]
    assert [m.shape[1] for m in maps] == list(stage_taps(backbone).channels)
    z, logits = model.embed(images(name, 4))
    assert z.shape == (4, 4, stage_taps(backbone).pooled) and logits.shape == (4, 3)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(z.shape[:2]))

    view1, view2 = images(name, 4).split(2)
    optimizer, totals = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9), []
    for _ in range(4):
        loss = sum(model(view1, view2, LABELS).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.8 * totals[0] and without_gradient(model) == []

    plain = make(name)
    plain.load_state_dict(model.backbone.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(model.eval()(view1), plain.eval()(view1))


def test_all_stages_are_taps_where_there_are_three():
    with torch.device("meta"):
        model = ContrastiveDeepSupervision("levit_128s", num_classes=3)
    assert model.taps == (1, 2, 3) and list(model.heads) == ["1", "2"]


def test_taps_may_be_numbers_of_numpy():
    model = ContrastiveDeepSupervision("test_byobnet", num_classes=3, taps=np.arange(1, 3))
    assert model.taps == (1, 2) and all(type(tap) is int for tap in model.taps)


def test_heads_are_on_the_device_of_the_network():
    teacher = ContrastiveDeepSupervision("convnext_atto", num_classes=3)
    for model in (
        ContrastiveDeepSupervision(make("test_resnet").to("meta"), num_classes=3),
        DistilledCDS(make("test_resnet").to("meta"), 3, teacher),
    ):
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def returned(name, modules_of):
    """Return pairs of the outputs of some modules and the maps of the stages, from the same forward pass."""
    backbone, found = make(name).eval(), []
    for module in modules_of(backbone):
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output.detach()))
    maps, _ = forward_stages(backbone, images(name, 2), stage_taps(backbone).indices)
    return zip(found, maps, strict=True)


def test_the_maps_of_a_transformer_are_its_image_tokens_in_their_places():
    """The tokens are in row-major order, without the class token."""
    for tokens, found in returned("vit_tiny_patch16_224", lambda vit: [vit.blocks[i] for i in stage_taps(vit).indices]):
        assert tokens.shape == (2, 1 + 9, 192)
        for row, column in ((0, 0), (0, 2), (2, 1)):
            assert torch.equal(found[:, :, row, column], tokens[:, 1 + 3 * row + column])


def test_the_maps_of_channels_last_stages_are_turned():
    for stage, found in returned("swin_tiny_patch4_window7_224", lambda swin: swin.layers):
        assert torch.equal(found, stage.permute(0, 3, 1, 2))


def test_channels_last_memory_changes_no_loss():
    model, pair = ContrastiveDeepSupervision(make("regnetx_002"), num_classes=3), images("regnetx_002", 4).split(2)
    before, layout = model(*pair, LABELS), {"memory_format": torch.channels_last}
    after = model.to(**layout)(*(view.to(**layout) for view in pair), LABELS)
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "arguments", "sentence"),
    [
        ("convnext_atto", {"taps": 3}, r"taps must be a list of stages, such as \[3\], not 3\."),
        *(
            ("convnext_atto", {"taps": taps}, r"taps must be increasing stages from 1 to 4, not \[.*\]\.")
            for taps in ((1, 5), [0, 1], [2, 1], [1, 1], [])
        ),
        ("levit_128s", {"taps": (1, 2, 3, 4)}, r"taps must be increasing stages from 1 to 3, not \[1, 2, 3, 4\]\."),
        ("resnet19", {}, "timm has no model 'resnet19': see timm.list_models"),
        (nn.Sequential(nn.Linear(2, 3)), {}, "Sequential does not report stage features; use a timm network"),
        ("test_byobnet", {"taps": ["layer1"]}, r"taps must be increasing stages from 1 to \d, not \['layer1'\]"),
        ("test_byobnet", {"weight": -0.1}, "weight must be a finite number, 0 or more, not -0.1"),
        ("test_byobnet", {"weight": float("nan")}, "weight must be a finite number, 0 or more, not nan"),
        ("test_byobnet", {"temperature": 0}, "The temperature must be positive, not 0"),
        ("test_byobnet", {"cross_entropy_views": 3}, "cross_entropy_views must be 1 or 2, not 3"),
        # timm would build a network without a classifier, and its features would enter the cross-entropy.
        ("test_byobnet", {"num_classes": 0}, "at least one class, not 0"),
        (make("regnetx_002"), {"num_classes": 10}, r"has 3 classes, not 10: .* its reset_classifier\(10\)"),
    ],
)
def test_mistakes_are_one_sentence(backbone, arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        ContrastiveDeepSupervision(backbone, **({"num_classes": 3} | arguments))


@pytest.mark.parametrize(
    ("other", "labels", "kind"), [(3, 4, torch.int64), (4, 3, torch.int64), (4, 4, torch.int32), (4, 4, torch.float32)]
)
def test_views_and_labels_of_other_images_are_named(other, labels, kind):
    model = ContrastiveDeepSupervision("test_byobnet", num_classes=3)
    said = rf"not \(4, 3, 32, 32\), \({other}, 3, 32, 32\) and \({labels},\) {kind}\."
    with pytest.raises(ValueError, match=said):
        model(torch.zeros(4, 3, 32, 32), torch.zeros(other, 3, 32, 32), torch.zeros(labels, dtype=kind))
    with pytest.raises(ValueError, match="labels .* are needed, not .* and no labels"):
        model.losses(*torch.zeros(2, 4, 3, 32, 32))
