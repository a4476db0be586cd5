"""The methods equal losses put together by hand; their gradients; the networks that remain after training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.losses import supcon_loss
from cds_lib.models import create_backbone, forward_stages, pooled_and_logits
from cds_lib.models.heads import SepConvUnit
from cds_lib.study.engines.build import create_method
from toys import LABELS, TAUGHT, draw_views, make, maps_of, terms_of, without_gradient


def test_baseline_is_the_cross_entropy_of_the_backbone():
    method, (view,) = make("baseline"), draw_views(1)
    ((name, loss),) = method(view, LABELS).items()
    assert name == "cross_entropy"
    torch.testing.assert_close(loss, F.cross_entropy(method.backbone(view), LABELS))


def test_cds_is_put_together_as_released():
    """Go stage by stage through timm's modules: both views at once, CE on view 1, SupCon on the four embeddings."""
    method, (view1, view2) = make("cds", weight=0.1), draw_views(2)
    losses = method(view1, view2, LABELS)
    *inner, last = maps_of(method.backbone, torch.cat([view1, view2]))
    embeddings = [*(head(stage) for head, stage in zip(method.heads.values(), inner, strict=True)), last.mean((2, 3))]
    logits = method.backbone.fc(embeddings[-1])
    assert list(losses) == ["cross_entropy", "contrastive_1", "contrastive_2", "contrastive_3", "contrastive_4"]
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits[:8], LABELS))
    for tap, embedding in enumerate(embeddings, 1):
        unit = embedding / embedding.norm(dim=1, keepdim=True)
        expected = 0.1 * supcon_loss(torch.stack([unit[:8], unit[8:]]), LABELS)
        torch.testing.assert_close(losses[f"contrastive_{tap}"], expected)


def test_the_cross_entropy_of_two_views_is_the_mean_of_two():
    """One pass over both views gives the logits, for CDS and for the baseline that also sees two views."""
    pair = draw_views(2)
    for method in (make("cds", cross_entropy_views=2), make("baseline", views=2)):
        assert method.views == 2
        losses = method(*pair, labels=LABELS)
        probabilities = method.backbone(torch.cat(pair)).softmax(1).detach().numpy().astype(np.float64)
        each = [-np.log(part[np.arange(8), LABELS.numpy()]).mean() for part in (probabilities[:8], probabilities[8:])]
        assert abs(each[0] - each[1]) > 1e-3
        assert losses["cross_entropy"].item() == pytest.approx(sum(each) / 2, rel=1e-5)
    for tap in range(1, 5):  # the contrastive terms do not change
        name = f"contrastive_{tap}"
        assert torch.equal(make("cds", cross_entropy_views=2)(*pair, LABELS)[name], make("cds")(*pair, LABELS)[name])


def test_cds_without_labels_uses_the_other_view_only():
    pair, others = draw_views(2), torch.arange(8) % 2
    a, b = (make("cds_simclr")(*pair, labels=labels) for labels in (LABELS, others))
    torch.testing.assert_close(a["contrastive_2"], b["contrastive_2"])
    assert not torch.isclose(a["contrastive_2"], make("cds")(*pair, labels=LABELS)["contrastive_2"])
    unknown = torch.full((8,), -1)
    none = make("cds", trained_on=unknown)(*pair, labels=unknown)
    assert none["cross_entropy"].item() == 0
    torch.testing.assert_close(none["contrastive_3"], a["contrastive_3"])


def test_dsn_is_put_together_by_hand():
    method, (view,) = make("dsn", weight=0.5), draw_views(1)
    losses = method(view, LABELS)
    assert list(losses) == ["cross_entropy", "cross_entropy_1", "cross_entropy_2", "cross_entropy_3"]
    *inner, last = maps_of(method.backbone, view)
    for stage, (head, classifier, found) in enumerate(zip(method.heads, method.classifiers, inner, strict=True), 1):
        expected = 0.5 * F.cross_entropy(classifier(head(found)), LABELS)
        torch.testing.assert_close(losses[f"cross_entropy_{stage}"], expected)
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(method.backbone.fc(last.mean((2, 3))), LABELS))


def test_dsn_with_a_divergence_to_the_last_classifier():
    method = make("dsn", weight=0.5, kl_weight=2.0)
    (view,) = draw_views(1)
    losses = method(view, labels=LABELS)
    maps, features = forward_stages(method.backbone, view, method.indices)
    last = pooled_and_logits(method.backbone, features)[1].softmax(1)
    for stage in range(3):
        inner = method.classifiers[stage](method.heads[stage](maps[stage])).log_softmax(1)
        divergence = (last * (last.log() - inner)).sum(1).mean()
        torch.testing.assert_close(losses[f"kl_{stage + 1}"], 2 * divergence)
    method.zero_grad()
    sum(losses[f"kl_{stage}"] for stage in (1, 2, 3)).backward()
    assert method.backbone.fc.weight.grad is None  # the last classifier is a constant target


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
    losses = method(*draw_views(2), labels=LABELS)
    assert list(losses) == ["cross_entropy", *(f"contrastive_{tap}" for tap in (1, 2, 3, 4))]
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_without_a_head_the_pooled_stages_themselves_are_contrasted():
    method = make("cds", weight=1.0, head_units=0).train()
    pair = draw_views(2)
    losses = method(*pair, labels=LABELS)
    maps, _ = forward_stages(method.backbone, torch.cat(pair), method.indices)
    for tap, stage in enumerate(maps, 1):
        z = F.normalize(stage.mean((2, 3)), dim=1).unflatten(0, (2, -1))
        torch.testing.assert_close(losses[f"contrastive_{tap}"], supcon_loss(z, LABELS, 0.07))


def test_two_views_of_dsn_are_one_batch_of_both():
    pair = draw_views(2)
    together = make("dsn")(torch.cat(pair), labels=LABELS.repeat(2))
    for name, loss in make("dsn", views=2)(*pair, labels=LABELS).items():
        assert torch.equal(loss, together[name])


@pytest.mark.parametrize("name", ["baseline", "dsn"])
@pytest.mark.parametrize(("views", "given"), [(1, 2), (2, 1)])
def test_another_number_of_views_is_refused(name, views, given):
    with pytest.raises(ValueError, match=rf"made for {views} view\(s\) of an image, not for {given}"):
        make(name, views=views).losses(*draw_views(given), labels=LABELS)


KINDS = {  # methods -> networks on which every parameter must get a gradient
    "baseline dsn cds cds_simclr okd": "resnet50 preactresnet18 seresnet18",
    "dks dhm": "resnet18 resnet50 resnext50_32x4d seresnet50 preactresnet18",
    " ".join(TAUGHT): "preactresnet18",  # for ResNets see test_distillation
}
EVERY = [(name, model) for names, models in KINDS.items() for name in names.split() for model in models.split()]


@pytest.mark.parametrize(("name", "model"), EVERY)
def test_every_parameter_gets_a_gradient(name, model):
    method = make(name, model)
    sum(terms_of(method).values()).backward()
    assert without_gradient(method) == []


def test_same_seed_gives_every_method_the_same_backbone():
    expected = make("baseline", seed=7).backbone.state_dict()
    for name in {name for name, _ in EVERY}:
        state = make(name, seed=7).backbone.state_dict()
        assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state), name


def test_taps_choose_stages_and_their_heads():
    method = make("cds", taps=[1, 3])
    assert list(method(*draw_views(2), labels=LABELS)) == ["cross_entropy", "contrastive_1", "contrastive_3"]
    assert list(method.heads) == ["1", "3"]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("cdx", {}, "The study has no method 'cdx'"),
        ("baseline", {"views": 3}, "views must be 1 or 2, not 3"),
        ("dsn", {"temperature": 0.1}, "Method 'dsn' does not take these options"),
        ("dks", {"layout": "dhm"}, "Method 'dks' does not take these options"),  # an option that users may not choose
        ("dks", {"backbone": None}, "Method 'dks' does not take these options"),
        ("okd", {"branches": 1}, "at least two branches"),
        ("crd", {"trained_on": torch.zeros(5, dtype=torch.int64)}, "at least two classes"),
        ("sskd", {"teacher": make("baseline", width=0.25)}, "an SSKDTeacher"),
        ("sskd_teacher", {"teacher": make("baseline", width=0.25)}, "teacher's own network"),
        ("cds_kd", {"teacher_mode": "frozen"}, "teacher_mode must be eval or train"),
        ("cds_kd", {"feature_loss": "l1"}, "feature_loss must be frobenius or mse"),
        (
            "cds_kd",
            {"teacher": make("cds", taps=(1, 4))},
            r"taps \[1, 4\] and the student's .* must be equal",
        ),
        ("cds_kd", {"teacher": make("baseline")}, "a teacher with CDS heads"),
    ],
)
def test_unknown_methods_options_and_teachers_are_refused(name, options, says):
    with pytest.raises(UsageError, match=says):
        make(name, **options)


def test_a_mistake_in_a_constructor_is_not_taken_for_wrong_options(monkeypatch):
    monkeypatch.setattr("cds_lib.methods.dsn.projection_heads", lambda *arguments: len(3))
    with pytest.raises(TypeError, match="has no len"):
        make("dsn")


@pytest.mark.parametrize("name", ["baseline", "dsn", "dks", "okd", "cds", "supcon", "linear", "kd", "cds_kd"])
def test_in_eval_mode_a_method_is_its_network_and_in_training_it_needs_labels(name):
    method = make(name)
    given = draw_views(method.views)
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


@pytest.mark.parametrize("count", [1, 2])
def test_unlabelled_images_have_no_cross_entropy_in_either_view_and_one_positive(count):
    torch.manual_seed(0)
    method = create_method("cds", create_backbone("resnet18", 20, width=0.125), 20, {"cross_entropy_views": count})
    pair, partly = draw_views(2), torch.tensor([0, 1, -1, -1, 0, -1, -1, 3])
    losses = method(*pair, labels=partly)
    logits, labels = method.backbone(torch.cat(pair))[: 8 * count], partly.repeat(count)
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits[labels >= 0], labels[labels >= 0]))
    classes_of_their_own = method(*pair, labels=torch.tensor([0, 1, 10, 11, 0, 12, 13, 3]))
    torch.testing.assert_close(losses["contrastive_1"], classes_of_their_own["contrastive_1"])
