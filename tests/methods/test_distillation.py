"""What holds for every method with a teacher, and the simple ones against losses put together by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F

from cds_lib import losses
from cds_lib.errors import UsageError
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from toys import LABELS, TAUGHT, draw_views, make, maps_of, terms_of


@pytest.mark.parametrize("name", ["kd", "at", "rkd", "sp", "cc", "crd", "sskd_teacher"])
def test_a_teacher_may_be_a_plain_timm_network(name):
    model = "resnet18" if name == "sskd_teacher" else "seresnet18"
    network = create_backbone(model, 4, width=0.125)
    teachers = copy.deepcopy(network), create_method("baseline", network, 4, {})
    plain, wrapped = (make(name, model, teacher=teacher) for teacher in teachers)
    losses = []
    for method in (plain, wrapped):
        torch.manual_seed(4)
        losses.append(terms_of(method.train()))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][term], losses[1][term]) for term in losses[0])
    if name != "sskd_teacher":
        assert not plain.teacher.training and not any(p.requires_grad for p in plain.teacher.parameters())


# -- the teacher -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_is_frozen_in_eval_mode_and_not_part_of_the_student(name):
    method = make(name)
    teacher = method.teacher
    before = copy.deepcopy(teacher.state_dict())
    method.eval()
    method.train()
    assert method.backbone.training and not any(module.training for module in teacher.modules())
    sum(terms_of(method).values()).backward()
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    theirs = {id(tensor) for tensor in [*teacher.parameters(), *teacher.buffers()]}
    assert theirs.isdisjoint({id(tensor) for tensor in [*method.parameters(), *method.buffers()]})
    assert teacher not in list(method.modules())
    assert not any("teacher." in key for key in method.state_dict() if not key.startswith("embed_teacher."))


@pytest.mark.parametrize("name", ["kd", "cds_kd"])
def test_the_teacher_moves_along(name):
    method = make(name).to(torch.float64)
    assert {p.dtype for p in method.teacher.parameters()} == {torch.float64}
    method.to("meta")
    assert {p.device.type for p in method.teacher.parameters()} == {"meta"}
    assert copy.deepcopy(make(name)).teacher is not method.teacher


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_runs_once_a_step(name):
    method, calls = make(name), []
    method.teacher.backbone.conv1.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    terms_of(method)
    assert calls == [False]


@pytest.mark.parametrize("name", TAUGHT)
def test_a_missing_teacher_is_refused(name):
    with pytest.raises(UsageError, match=f"Method '{name}' distils a teacher"):
        create_method(name, create_backbone("resnet18", 4, width=0.125), 4, {})


# -- by hand -----------------------------------------------------------------------------------------------------------


def by_hand(name, method, student, teacher):
    """What a method adds to the cross-entropy, of the four maps of both networks."""
    pooled = [maps[-1].mean((2, 3)) for maps in (student, teacher)]
    if name == "kd":
        logits = [side.backbone.fc(vector) for side, vector in zip((method, method.teacher), pooled, strict=True)]
        return {"cross_entropy": 0.1 * F.cross_entropy(logits[0], LABELS), "kd": 0.9 * losses.kd_loss(*logits, 4.0)}
    if name == "at":
        pairs = enumerate(zip(student, teacher, strict=True), 1)
        return {f"attention_{stage}": 1000 * losses.attention_loss(*pair) for stage, pair in pairs}
    if name == "sp":
        return {"similarity": 3000 * losses.similarity_loss(student[-1], teacher[-1])}
    if name == "rkd":
        return {"distance": 25 * losses.distance_loss(*pooled), "angle": 50 * losses.angle_loss(*pooled)}
    embedded = method.embed_student(pooled[0]), method.embed_teacher(pooled[1])
    assert [tuple(e.shape) for e in embedded] == [(8, 128), (8, 128)]
    return {"correlation": 0.02 * losses.correlation_loss(*embedded)}


@pytest.mark.parametrize("name", ["kd", "at", "sp", "rkd", "cc"])
def test_what_is_compared_are_logits_stages_or_pooled_vectors(name):
    method, (view,) = make(name), draw_views(1)
    terms = terms_of(method, view)
    expected = by_hand(name, method, *(maps_of(net, view) for net in (method.backbone, method.teacher.backbone)))
    expected = {"cross_entropy": F.cross_entropy(method.backbone(view), LABELS), **expected}
    assert list(terms) == list(expected)
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], value)
