"""Distilled CDS: the released values, the adapters, the teacher's mode and the distances."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method

GOLDEN = Path(__file__).parents[1] / "golden"
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def make(teacher_width=0.25, teacher_options=None, **options):
    torch.manual_seed(0)
    teacher = create_method("cds", create_backbone("resnet18", 4, width=teacher_width), 4, teacher_options or {})
    return create_method("cds_kd", create_backbone("resnet18", 4, width=0.125), 4, options, teacher)


def views():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 16, 16, generator=generator) for _ in range(2)]


def test_the_loss_equals_the_released_implementation():
    expected = json.loads((GOLDEN / "distillation.json").read_text())
    arrays = {**np.load(GOLDEN / "cds.npz"), **np.load(GOLDEN / "distillation.npz")}
    inputs = {key: torch.from_numpy(value) for key, value in arrays.items()}
    method = make(teacher_width=0.125)

    def returns(z, logits):  # logits of view 2, which must not matter
        return lambda images: (z.flatten(1, 2), torch.cat([logits, torch.full_like(logits, 9)]))

    method.embed = returns(inputs["cds_z"], inputs["cds_logits"])
    method.teacher.embed = returns(inputs["cds_kd_teacher_z"], inputs["cds_kd_teacher_logits"])
    terms = method(torch.zeros(16, 1), torch.zeros(16, 1), inputs["cds_labels"])
    feature = sum(terms[f"feature_{tap}"] for tap in (1, 2, 3, 4))
    assert feature.item() == pytest.approx(expected["cds_kd_feature_term"], rel=1e-5)
    assert terms["soft_cross_entropy"].item() == pytest.approx(expected["cds_kd_soft_ce"], rel=1e-5)
    assert torch.equal(inputs["cds_labels"], inputs["cds_targets"])
    assert sum(terms.values()).item() == pytest.approx(expected["cds_kd_total_released"], rel=1e-5)


@pytest.mark.parametrize("feature_loss", ["frobenius", "mse"])
def test_put_together_by_hand(feature_loss):
    method = make(feature_loss=feature_loss, feature_weight=0.5, temperature=1.0)
    view1, view2 = views()
    terms = method(view1, view2, LABELS)
    plain = [key for key in terms if key.startswith(("cross_entropy", "contrastive_"))]
    assert [key for key in terms if key not in plain] == [*(f"feature_{k}" for k in range(1, 5)), "soft_cross_entropy"]

    z, logits = method.embed(torch.cat([view1, view2]))
    target_z, target_logits = method.teacher.embed(torch.cat([view1, view2]))
    for tap in range(4):
        layer = method.adapters[tap]
        square = (target_z[tap] - (z[tap] @ layer.weight.T + layer.bias)) ** 2
        distance = square.sum().sqrt() if feature_loss == "frobenius" else square.mean()
        torch.testing.assert_close(terms[f"feature_{tap + 1}"], 0.5 * distance)
    soft = -(target_logits[:8].softmax(1) * logits[:8].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(terms["soft_cross_entropy"], soft)

    student_alone = create_method("cds", method.backbone, 4, {})
    student_alone.heads = method.heads
    for key, value in student_alone(view1, view2, LABELS).items():
        torch.testing.assert_close(terms[key], value)


def test_adapters_only_where_the_embeddings_differ_in_length():
    same, other = make(teacher_width=0.125), make()
    assert not list(same.adapters.parameters())
    assert [(a.in_features, a.out_features) for a in other.adapters] == [(64, 128)] * 4


def test_a_student_equal_to_its_teacher_has_no_feature_loss_and_a_finite_gradient():
    method = make(teacher_width=0.125, teacher_mode="train")
    method.load_state_dict(method.teacher.state_dict())
    terms = method(*views(), LABELS)
    assert sum(terms[f"feature_{tap}"] for tap in range(1, 5)).item() == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_the_teachers_mode():
    pair = views()
    for mode, drifts in (("eval", False), ("train", True)):
        method = make(teacher_mode=mode)
        assert method.teacher.training == drifts
        before = method.teacher.backbone.bn1.running_mean.clone()
        method(*pair, LABELS)
        assert torch.equal(before, method.teacher.backbone.bn1.running_mean) != drifts
        assert not any(p.requires_grad for p in method.teacher.parameters())
        method.eval()
        assert not method.teacher.training


def test_in_eval_mode_it_is_the_backbone_alone():
    method = make().eval()
    (view, _) = views()
    torch.testing.assert_close(method(view), method.backbone(view))
    with pytest.raises(ValueError, match="two views and labels"):
        method.train()(view)


def test_images_without_a_label_join_all_but_the_cross_entropy():
    method = make()
    view1, view2 = views()
    labels = torch.tensor([0, 1, -1, -1, 0, -1, 2, 3])
    terms = method(view1, view2, labels)
    logits = method.embed(torch.cat([view1, view2]))[1][:8]
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits[labels >= 0], labels[labels >= 0]))
    torch.testing.assert_close(terms["soft_cross_entropy"], method(view1, view2, LABELS)["soft_cross_entropy"])


def test_wrong_choices_are_refused():
    with pytest.raises(UsageError, match="teacher_mode must be eval or train"):
        make(teacher_mode="frozen")
    with pytest.raises(UsageError, match="feature_loss must be frobenius or mse"):
        make(feature_loss="l1")
    with pytest.raises(UsageError, match=r"taps \[1, 4\] and the student's \[1, 2, 3, 4\] must be equal"):
        make(teacher_options={"taps": (1, 4)})
    with pytest.raises(UsageError, match="a teacher with CDS heads"):
        baseline = create_method("baseline", create_backbone("resnet18", 4, width=0.125), 4, {})
        create_method("cds_kd", create_backbone("resnet18", 4, width=0.125), 4, {}, baseline)
