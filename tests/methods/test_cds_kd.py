"""Distilled CDS: the released values, the adapters, the teacher's mode and the distances."""

import pytest
import torch
import torch.nn.functional as F

from cds_lib.methods import DistilledCDS
from cds_lib.study.engines.build import create_method
from toys import LABELS, draw_views, make, make_teacher, released, terms_of


def with_teacher(width=0.125, **options):
    """Return distilled CDS with a teacher of this width; the student has 0.125."""
    return make("cds_kd", teacher=make_teacher("cds_kd", width), **options)


def test_the_loss_equals_the_released_implementation():
    inputs, expected = released("distillation")
    inputs |= released("cds")[0]
    method = with_teacher()

    def returns(z, logits):  # view 2 gets other logits, which must not matter
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
    method = make("cds_kd", feature_loss=feature_loss, feature_weight=0.5, temperature=1.0)
    view1, view2 = draw_views(2)
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
    assert not list(with_teacher().adapters.parameters())
    assert [(a.in_features, a.out_features) for a in make("cds_kd").adapters] == [(64, 128)] * 4


def test_a_student_may_be_a_name():
    assert DistilledCDS("test_resnet", 4, make_teacher("cds_kd")).backbone.num_classes == 4


def test_a_student_equal_to_its_teacher_has_no_feature_loss_and_a_finite_gradient():
    method = with_teacher(teacher_mode="train")
    method.load_state_dict(method.teacher.state_dict())
    terms = terms_of(method)
    assert sum(terms[f"feature_{tap}"] for tap in range(1, 5)).item() == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize(("mode", "drifts"), [("eval", False), ("train", True)])
def test_the_teachers_mode(mode, drifts):
    method = make("cds_kd", teacher_mode=mode)
    assert method.teacher.training == drifts
    before = method.teacher.backbone.bn1.running_mean.clone()
    terms_of(method)
    assert torch.equal(before, method.teacher.backbone.bn1.running_mean) != drifts
    assert not any(p.requires_grad for p in method.teacher.parameters())
    assert not method.eval().teacher.training


def test_images_without_a_label_join_all_but_the_cross_entropy():
    labels = torch.tensor([0, 1, -1, -1, 0, -1, 2, 3])
    method, (view1, view2) = make("cds_kd", trained_on=labels), draw_views(2)
    terms = method(view1, view2, labels)
    logits = method.embed(torch.cat([view1, view2]))[1][:8]
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits[labels >= 0], labels[labels >= 0]))
    torch.testing.assert_close(terms["soft_cross_entropy"], method(view1, view2, LABELS)["soft_cross_entropy"])
