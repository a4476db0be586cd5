"""What holds for every method with a teacher, and the simple ones against losses put together by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F

from cds_lib import losses
from cds_lib.errors import UsageError
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method

LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
INDEX = torch.tensor([5, 2, 7, 0, 9, 4, 3, 6])
TRAINING_LABELS = torch.arange(12) % 4
TEACHERS = {"cds_kd": "cds", "sskd": "sskd_teacher"}  # the others take any method
NAMES = ["kd", "at", "rkd", "sp", "cc", "crd", "sskd", "cds_kd"]


def make_teacher(name):
    torch.manual_seed(1)
    backbone = create_backbone("resnet18", 4, width=0.25)
    if name == "sskd_teacher":
        trained = create_method("baseline", copy.deepcopy(backbone), 4, {})
        return create_method(name, backbone, 4, {}, trained)
    return create_method(name, backbone, 4, {})


def make(name, model="resnet18", teacher=None, **options):
    teacher = teacher or make_teacher(TEACHERS.get(name, "baseline"))
    torch.manual_seed(0)
    method = create_method(name, create_backbone(model, 4, width=0.125), 4, options, teacher)
    method.prepare(TRAINING_LABELS)
    return method


def views(count, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 3, 16, 16, generator=generator) for _ in range(count)]


def step(method, pair):
    index = {"index": INDEX} if method.needs_index else {}
    return method(*pair, labels=LABELS, **index)


def maps_of(net, x):
    maps = []
    x = net.act1(net.bn1(net.conv1(x)))
    for stage in range(1, 5):
        x = getattr(net, f"layer{stage}")(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("name", ["kd", "at", "rkd", "sp", "cc", "crd", "sskd_teacher"])
def test_a_teacher_may_be_a_plain_timm_network(name):
    model = "resnet18" if name == "sskd_teacher" else "seresnet18"
    torch.manual_seed(3)
    network = create_backbone(model, 4, width=0.125)
    plain, wrapped = (
        make(name, model, teacher) for teacher in (copy.deepcopy(network), create_method("baseline", network, 4, {}))
    )
    losses = []
    for method in (plain, wrapped):
        torch.manual_seed(4)
        losses.append(step(method.train(), views(1)))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][term], losses[1][term]) for term in losses[0])
    if name != "sskd_teacher":
        assert not plain.teacher.training and not any(p.requires_grad for p in plain.teacher.parameters())


# -- the teacher -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_frozen_in_eval_mode_and_not_part_of_the_student(name):
    method = make(name)
    teacher = method.teacher
    before = copy.deepcopy(teacher.state_dict())
    method.eval()
    method.train()
    assert method.backbone.training
    assert not any(module.training for module in teacher.modules())
    sum(step(method, views(method.views)).values()).backward()
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


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_runs_once_a_step(name):
    method = make(name)
    calls = []
    method.teacher.backbone.conv1.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    step(method, views(method.views))
    assert calls == [False]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_teacher_is_refused(name):
    with pytest.raises(UsageError, match=f"Method '{name}' distils a teacher"):
        create_method(name, create_backbone("resnet18", 4, width=0.125), 4, {})


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["resnet50", "preactresnet18"])
def test_every_parameter_gets_a_gradient(name, model):
    method = make(name, model)
    sum(step(method, views(method.views)).values()).backward()
    missing = [key for key, p in method.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []


def test_every_student_of_one_seed_starts_from_the_same_backbone():
    reference = make("kd").backbone.state_dict()
    for name in ("crd", "sskd", "cds_kd"):
        assert all(torch.equal(reference[key], value) for key, value in make(name).backbone.state_dict().items())


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_kd_is_put_together_by_hand():
    method = make("kd")
    (view,) = views(1)
    terms = step(method, [view])
    student, teacher = method.backbone(view), method.teacher.backbone(view)
    kl = F.kl_div(F.log_softmax(student / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean")
    assert list(terms) == ["cross_entropy", "kd"]
    torch.testing.assert_close(terms["cross_entropy"], 0.1 * F.cross_entropy(student, LABELS))
    torch.testing.assert_close(terms["kd"], 0.9 * 16 * kl)


def test_at_compares_all_four_stages():
    method = make("at")
    (view,) = views(1)
    terms = step(method, [view])
    pairs = zip(maps_of(method.backbone, view), maps_of(method.teacher.backbone, view), strict=True)
    assert list(terms) == ["cross_entropy", "attention_1", "attention_2", "attention_3", "attention_4"]
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(method.backbone(view), LABELS))
    for stage, (student, teacher) in enumerate(pairs, 1):
        torch.testing.assert_close(terms[f"attention_{stage}"], 1000 * losses.attention_loss(student, teacher))


def test_sp_compares_the_last_stage():
    method = make("sp")
    (view,) = views(1)
    terms = step(method, [view])
    student, teacher = maps_of(method.backbone, view)[-1], maps_of(method.teacher.backbone, view)[-1]
    assert list(terms) == ["cross_entropy", "similarity"]
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(method.backbone(view), LABELS))
    torch.testing.assert_close(terms["similarity"], 3000 * losses.similarity_loss(student, teacher))


@pytest.mark.parametrize("name", ["rkd", "cc"])
def test_rkd_and_cc_compare_the_pooled_vectors(name):
    method = make(name)
    (view,) = views(1)
    terms = step(method, [view])
    student, teacher = (maps_of(net, view)[-1].mean((2, 3)) for net in (method.backbone, method.teacher.backbone))
    torch.testing.assert_close(terms.pop("cross_entropy"), F.cross_entropy(method.backbone(view), LABELS))
    if name == "rkd":
        assert list(terms) == ["distance", "angle"]
        torch.testing.assert_close(terms["distance"], 25 * losses.distance_loss(student, teacher))
        torch.testing.assert_close(terms["angle"], 50 * losses.angle_loss(student, teacher))
    else:
        embedded = method.embed_student(student), method.embed_teacher(teacher)
        assert [tuple(e.shape) for e in embedded] == [(8, 128), (8, 128)]
        assert list(terms) == ["correlation"]
        torch.testing.assert_close(terms["correlation"], 0.02 * losses.correlation_loss(*embedded))
