"""The methods against losses put together by hand, their gradients, and what remains of them after training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.losses import supcon_loss
from cds_lib.models import create_backbone, forward_stages, pooled_and_logits
from cds_lib.models.heads import SepConvUnit
from cds_lib.study.engines.build import create_method

LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def make(name, model="resnet18", seed=0, **options):
    torch.manual_seed(seed)
    backbone = create_backbone(model, 4, width=0.125)
    return create_method(name, backbone, 4, options)


def views(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 3, 16, 16, generator=generator) for _ in range(count)]


def test_baseline_is_the_cross_entropy_of_the_backbone():
    method = make("baseline")
    (view,) = views(1)
    assert method(view, labels=LABELS).keys() == {"cross_entropy"}
    torch.testing.assert_close(
        method(view, labels=LABELS)["cross_entropy"], F.cross_entropy(method.backbone(view), LABELS)
    )


def test_cds_is_put_together_as_released():
    """Stage by stage through timm's own modules: both views at once, CE on view 1, SupCon on the four embeddings."""
    method = make("cds", weight=0.1)
    view1, view2 = views(2)
    losses = method(view1, view2, LABELS)
    net = method.backbone
    x = net.act1(net.bn1(net.conv1(torch.cat([view1, view2]))))
    embeddings = []
    for stage in range(1, 5):
        x = getattr(net, f"layer{stage}")(x)
        embeddings.append(method.heads[str(stage)](x) if stage < 4 else x.mean((2, 3)))
    logits = net.fc(embeddings[-1])
    assert list(losses) == ["cross_entropy", "contrastive_1", "contrastive_2", "contrastive_3", "contrastive_4"]
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits[:8], LABELS))
    for tap, embedding in enumerate(embeddings, 1):
        unit = embedding / embedding.norm(dim=1, keepdim=True)
        expected = 0.1 * supcon_loss(torch.stack([unit[:8], unit[8:]]), LABELS)
        torch.testing.assert_close(losses[f"contrastive_{tap}"], expected)


def test_the_cross_entropy_of_two_views_is_the_mean_of_two():
    """Of the logits that one pass over both views gives, for CDS and for the baseline that costs as much."""
    pair = views(2)
    for method in (make("cds", cross_entropy_views=2), make("baseline", views=2)):
        assert method.views == 2
        losses = method(*pair, labels=LABELS)
        probabilities = method.backbone(torch.cat(pair)).softmax(1).detach().numpy().astype(np.float64)
        each = [-np.log(part[np.arange(8), LABELS.numpy()]).mean() for part in (probabilities[:8], probabilities[8:])]
        assert abs(each[0] - each[1]) > 1e-3
        assert losses["cross_entropy"].item() == pytest.approx(sum(each) / 2, rel=1e-5)
    for tap in range(1, 5):  # nothing else changes
        name = f"contrastive_{tap}"
        assert torch.equal(make("cds", cross_entropy_views=2)(*pair, LABELS)[name], make("cds")(*pair, LABELS)[name])


def test_unlabelled_images_have_no_cross_entropy_in_either_view():
    partly, pair = torch.tensor([0, -1, 2, -1, 0, 1, -1, 3]), views(2)
    method = make("cds", cross_entropy_views=2)
    loss = method(*pair, labels=partly)["cross_entropy"]
    logits = method.backbone(torch.cat(pair))
    known = torch.cat([partly, partly]) >= 0
    torch.testing.assert_close(loss, F.cross_entropy(logits[known], torch.cat([partly, partly])[known]))


def test_a_baseline_has_one_or_two_views():
    with pytest.raises(UsageError, match="views must be 1 or 2, not 3"):
        make("baseline", views=3)


def test_cds_without_labels_uses_the_other_view_only():
    with_labels, without = make("cds"), make("cds_simclr")
    pair = views(2)
    shuffled = LABELS.flip(0) * 0 + torch.arange(8) % 2
    a, b = without(*pair, labels=LABELS), make("cds_simclr")(*pair, labels=shuffled)
    torch.testing.assert_close(a["contrastive_2"], b["contrastive_2"])
    assert not torch.isclose(a["contrastive_2"], with_labels(*pair, labels=LABELS)["contrastive_2"])


def test_dsn_is_put_together_by_hand():
    method = make("dsn", weight=0.5)
    (view,) = views(1)
    losses = method(view, labels=LABELS)
    net = method.backbone
    x = net.act1(net.bn1(net.conv1(view)))
    assert list(losses) == ["cross_entropy", "cross_entropy_1", "cross_entropy_2", "cross_entropy_3"]
    for stage in range(1, 5):
        x = getattr(net, f"layer{stage}")(x)
        if stage < 4:
            logits = method.classifiers[stage - 1](method.heads[stage - 1](x))
            torch.testing.assert_close(losses[f"cross_entropy_{stage}"], 0.5 * F.cross_entropy(logits, LABELS))
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(net.fc(x.mean((2, 3))), LABELS))


def test_dsn_with_a_divergence_to_the_last_classifier():
    method = make("dsn", weight=0.5, kl_weight=2.0)
    (view,) = views(1)
    losses = method(view, labels=LABELS)
    maps, features = forward_stages(method.backbone, view, method.indices)
    last = pooled_and_logits(method.backbone, features)[1].softmax(1)
    for stage in range(3):
        inner = method.classifiers[stage](method.heads[stage](maps[stage])).log_softmax(1)
        divergence = (last * (last.log() - inner)).sum(1).mean()
        torch.testing.assert_close(losses[f"kl_{stage + 1}"], 2 * divergence)
    method.zero_grad()
    sum(losses[f"kl_{stage}"] for stage in (1, 2, 3)).backward()
    assert method.backbone.fc.weight.grad is None  # the last classifier teaches and is not taught


@pytest.mark.parametrize(
    ("options", "linear", "units"),
    [
        ({"head_units": 0}, 0, 0),
        ({"head_units": 2}, 0, 8),
        ({"head_units": 0, "head_mlp": True}, 8, 0),
        ({"head_mlp": True}, 8, 6),
    ],
)
def test_heads_of_other_forms(options, linear, units):
    method = make("cds", weight=1.0, **options)
    modules = list(method.heads.modules())
    assert sum(isinstance(module, torch.nn.Linear) for module in modules) == linear
    assert sum(isinstance(module, SepConvUnit) for module in modules) == units
    losses = method(*views(2), labels=LABELS)
    assert list(losses) == ["cross_entropy", *(f"contrastive_{tap}" for tap in (1, 2, 3, 4))]
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_without_a_head_the_pooled_stages_themselves_are_contrasted():
    method = make("cds", weight=1.0, head_units=0).train()
    pair = views(2)
    losses = method(*pair, labels=LABELS)
    maps, _ = forward_stages(method.backbone, torch.cat(pair), method.indices)
    for tap, stage in enumerate(maps, 1):
        z = F.normalize(stage.mean((2, 3)), dim=1).unflatten(0, (2, -1))
        torch.testing.assert_close(losses[f"contrastive_{tap}"], supcon_loss(z, LABELS, 0.07))


def test_two_views_of_dsn_are_one_batch_of_both():
    one, two = make("dsn", seed=3), make("dsn", seed=3, views=2)
    view1, view2, labels = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    together = one(torch.cat([view1, view2]), labels=labels.repeat(2))
    for name, loss in two(view1, view2, labels=labels).items():
        assert torch.equal(loss, together[name])


@pytest.mark.parametrize("name", ["baseline", "dsn", "cds", "cds_simclr"])
@pytest.mark.parametrize("model", ["resnet50", "preactresnet18", "seresnet18"])
def test_every_parameter_gets_a_gradient(name, model):
    method = make(name, model)
    sum(method(*views(method.views), labels=LABELS).values()).backward()
    missing = [key for key, p in method.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []


def test_same_seed_gives_every_method_the_same_backbone():
    states = [make(name, seed=7).backbone.state_dict() for name in ("baseline", "dsn", "cds")]
    for state in states[1:]:
        assert all(torch.equal(state[key], value) for key, value in states[0].items())


def test_taps_choose_stages_and_their_heads():
    method = make("cds", taps=[1, 3])
    assert list(method(*views(2), labels=LABELS)) == ["cross_entropy", "contrastive_1", "contrastive_3"]
    assert list(method.heads) == ["1", "3"]


def test_unknown_methods_and_options_are_refused():
    with pytest.raises(UsageError, match="The study has no method 'cdx'"):
        make("cdx")
    with pytest.raises(UsageError, match="does not take these options"):
        make("dsn", temperature=0.1)
    for options in ({"layout": "dhm"}, {"backbone": None}):  # what is not to choose
        with pytest.raises(UsageError, match="Method 'dks' does not take these options"):
            create_method("dks", create_backbone("resnet18", 4, width=0.125), 4, options)


def test_a_mistake_in_a_constructor_is_not_taken_for_wrong_options(monkeypatch):
    def mistaken(*arguments):
        return len(3)

    monkeypatch.setattr("cds_lib.methods.dsn.projection_heads", mistaken)
    with pytest.raises(TypeError, match="has no len"):
        make("dsn")


@pytest.mark.parametrize("name", ["baseline", "dsn", "dks", "okd", "cds", "supcon", "linear"])
def test_in_eval_mode_a_method_is_its_network_and_in_training_it_needs_labels(name):
    method = make(name)
    given = views(method.views)
    with pytest.raises(ValueError, match=f"needs {'two views' if method.views == 2 else 'one view'} and labels"):
        method(*given)
    with pytest.raises(ValueError, match="and labels"):
        method(*given, None)
    method.eval()
    for part in (part for name, part in method.named_modules() if name and not name.startswith("backbone")):
        part.register_forward_hook(lambda *_: pytest.fail("a head is computed"))
    logits = method(given[0])
    assert logits.shape == (8, 4)
    assert torch.equal(logits, method.backbone(given[0])) and torch.equal(logits, method(*given, labels=LABELS))


def test_unlabelled_images_have_no_cross_entropy_and_one_positive():
    torch.manual_seed(0)
    method = create_method("cds", create_backbone("resnet18", 20, width=0.125), 20, {})
    pair = views(2)
    partly = torch.tensor([0, 1, -1, -1, 0, -1, -1, 3])
    losses = method(*pair, labels=partly)
    with torch.no_grad():
        logits = method.backbone(torch.cat(pair))[:8]
    known = partly >= 0
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits[known], partly[known]))
    classes_of_their_own = method(*pair, labels=torch.tensor([0, 1, 10, 11, 0, 12, 13, 3]))
    torch.testing.assert_close(losses["contrastive_1"], classes_of_their_own["contrastive_1"])


def test_a_batch_without_labels_is_simclr_alone():
    pair = views(2)
    losses = make("cds")(*pair, labels=torch.full((8,), -1))
    assert losses["cross_entropy"].item() == 0
    torch.testing.assert_close(losses["contrastive_3"], make("cds_simclr")(*pair, labels=LABELS)["contrastive_3"])
