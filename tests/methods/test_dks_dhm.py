"""DKS and DHM: branches against timm's own stages, losses put together by hand, and what remains after training."""

import itertools

import pytest
import timm
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from toys import LABELS, check_initialisation, draw_views, make, maps_of, terms_of

DEPTHS, PREACT = ("resnet18", "resnet34", "resnet50", "resnet101"), "preactresnet18"
# Number of (stage 3, stage 4) blocks in the branch after stage 2. The branch after stage 3 has all stage-4 blocks.
COUNTS = {
    "dks": {"18": (2, 1), "34": (6, 1), "50": (6, 1), "101": (23, 1)},
    "dhm": {"18": (1, 2), "34": (3, 2), "50": (3, 2), "101": (12, 2)},
}


def shapes(module):
    return [tuple(value.shape) for value in module.state_dict().values()]


@pytest.mark.parametrize("name", ["dks", "dhm"])
@pytest.mark.parametrize("model", [*DEPTHS, "resnext50_32x4d", "seresnet18", PREACT])
def test_branches_have_the_shapes_of_timm_stages(model, name):
    """At full width on the meta device. The second branch is stage 4 of a timm network with a stage 4 twice as wide."""
    with torch.device("meta"):
        method = make(name, model, width=1.0)
        timm_name = "resnetv2_18" if model == PREACT else model
        wide = timm.create_model(timm_name, channels=(64, 128, 256, 1024))
    first, second = method.branches
    third, fourth = next(counts for depth, counts in COUNTS[name].items() if depth in model)
    net = method.backbone
    if model == PREACT:
        expected = [*net.stages[2].blocks[:third], *net.stages[3].blocks[:fourth], net.norm]
        assert shapes(second) == shapes(wide.stages[3]) + shapes(wide.norm)
        assert len(second) == len(net.stages[3].blocks) + 3  # plus norm, pooling and flattening
    else:
        expected = [*net.layer3[:third], *net.layer4[:fourth]]
        assert shapes(second) == shapes(wide.layer4)
    assert shapes(first) == sum(map(shapes, expected), [])
    assert [c.in_features for c in method.classifiers] == [net.num_features, 2 * net.num_features]


@pytest.mark.parametrize("name", ["dks", "dhm"])
def test_is_put_together_by_hand(name):
    method, (view,) = make(name), draw_views(1)
    losses = method(view, labels=LABELS)
    (branch1, branch2), (fc1, fc2) = method.branches, method.classifiers
    _, stage2, stage3, stage4 = maps_of(method.backbone, view)
    ends = stage4.mean((2, 3)), branch1(stage2), branch2(stage3)
    logits = [fc(end) for fc, end in zip((method.backbone.fc, fc1, fc2), ends, strict=True)]
    assert list(losses) == ["cross_entropy", "cross_entropy_1", "cross_entropy_2", "mimicry"]
    for term, one in zip(losses, logits, strict=False):
        torch.testing.assert_close(losses[term], F.cross_entropy(one, LABELS))
    expected = sum(
        F.kl_div(one.log_softmax(1), other.detach().softmax(1), reduction="batchmean")
        for one, other in itertools.permutations(logits, 2)
    )
    torch.testing.assert_close(losses["mimicry"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dks", "dhm"])
def test_stages_of_one_block_have_branches_of_one_block(name):
    """Regression: half of one block was rounded down to none, and the classifier got the width of another stage."""
    method = create_method(name, timm.create_model("resnet10t", num_classes=4), 4, {})
    basic = timm.models.resnet.BasicBlock
    assert [sum(isinstance(part, basic) for part in branch) for branch in method.branches] == [2, 1]
    sum(method(torch.randn(2, 3, 64, 64), labels=LABELS[:2]).values()).backward()
    assert all(p.grad is not None for p in method.parameters())


def test_preactivation_branches_end_in_their_own_norm():
    method, (view,) = make("dhm", PREACT), draw_views(1)
    net, branch = method.backbone, method.branches[0]
    assert type(branch[-3]) is type(net.norm)
    ends = branch[:-2](net.stages[1](net.stages[0](net.stem(view))))
    assert ends.min() == 0  # after batch norm and ReLU, like the network's own features
    logits = method.classifiers[0](ends.mean((2, 3)))
    torch.testing.assert_close(method(view, labels=LABELS)["cross_entropy_1"], F.cross_entropy(logits, LABELS))


@pytest.mark.parametrize("model", ["seresnet18", PREACT])
def test_branches_share_nothing_and_start_afresh(model):
    torch.manual_seed(0)
    backbone = create_backbone(model, 4, width=0.125)
    for statistic in (b for key, b in backbone.named_buffers() if key.endswith("running_mean")):
        statistic.fill_(7.0)  # as if the backbone had been trained before
    for key, parameter in backbone.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.constant_(parameter, 7.0)
    method = create_method("dks", backbone, 4, {})
    tensors = [t for t in method.state_dict().values() if t.numel() > 0]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)
    for branch in method.branches:
        for key, value in branch.state_dict().items():
            if key.endswith(("running_mean", "bias")):
                assert not (value == 7.0).any(), key
            elif key.endswith("running_var"):
                assert (value == 1).all()
    own = {tuple(p.flatten()[:4].tolist()) for p in backbone.parameters() if p.ndim == 4}
    new = [tuple(p.flatten()[:4].tolist()) for p in method.branches.parameters() if p.ndim == 4]
    assert len(set(new)) == len(new) and own.isdisjoint(new)


@pytest.mark.parametrize("name", ["dks", "dhm"])
def test_new_convolutions_have_the_released_initialisation(name):
    check_initialisation(make(name, width=0.5).branches[1])


@pytest.mark.parametrize("name", ["dks", "dhm"])
def test_the_weight_is_that_of_all_that_the_branches_add(name):
    plain, weighted = (terms_of(make(name, **options)) for options in ({}, {"weight": 0.3}))
    assert torch.equal(plain["cross_entropy"], weighted["cross_entropy"])
    for term in plain.keys() - {"cross_entropy"}:
        torch.testing.assert_close(weighted[term], 0.3 * plain[term], rtol=0, atol=0)


def test_what_has_no_such_branches_is_refused():
    for name in ("mobilenetv3_small_050", "resnetv2_50x1_bit"):  # no residual stages; group norms
        with torch.device("meta"):
            backbone = timm.create_model(name, num_classes=4)
        with pytest.raises(UsageError, match="DKS and DHM"):
            create_method("dks", backbone, 4, {})
