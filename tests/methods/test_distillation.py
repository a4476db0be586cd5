"""Every method with a teacher or teaching branches: common properties, then each by hand or as released."""

import copy
import itertools
import math
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from cds_lib import losses
from cds_lib.errors import UsageError
from cds_lib.methods.sskd import rotated_copies
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from toys import LABELS, TAUGHT, draw_views, generator, make, maps_of, released, terms_of, without_gradient


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
    assert without_gradient(method) == []
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
    """Compute the terms that a method adds to the cross-entropy, from the four maps of both networks."""
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


# -- OKD ---------------------------------------------------------------------------------------------------------------


def test_okd_is_put_together_by_hand():
    method, (view,) = make("okd", rampup_epochs=0), draw_views(1)
    net, terms = method.backbone, method(view, LABELS)
    shared = net.layer3(net.layer2(net.layer1(net.act1(net.bn1(net.conv1(view))))))
    logits = [net.fc(net.layer4(shared).mean((2, 3)))]
    logits += [fc(stage(shared).mean((2, 3))) for stage, fc in zip(method.stages, method.classifiers, strict=True)]
    linear, norm = method.gate[:2]
    gate = linear(shared.mean((2, 3)))
    gate = (gate - gate.mean(0)) / (gate.var(0, unbiased=False) + norm.eps).sqrt()
    gate = gate.clamp(min=0).softmax(1)
    ensemble = sum(gate[:, branch, None] * logits[branch] for branch in range(3))
    assert list(terms) == ["cross_entropy", "cross_entropy_2", "cross_entropy_3", "ensemble", "kd"]
    for name, one in zip(terms, [*logits, ensemble], strict=False):
        torch.testing.assert_close(terms[name], F.cross_entropy(one, LABELS))
    # As in the released code, 1e-7 is added to the target probabilities.
    target = F.softmax(ensemble / 3, 1) + 1e-7
    kl = sum((target * (target.log() - F.log_softmax(one / 3, 1))).sum() / 8 for one in logits)
    torch.testing.assert_close(terms["kd"], 9 * kl, rtol=1e-4, atol=1e-5)
    terms["kd"].backward()  # the ensemble is a constant in this term
    assert all(p.grad is None for p in method.gate.parameters())
    assert method.classifiers[0].weight.grad.abs().sum() > 0


def test_okds_branches_start_apart():
    method = make("okd")
    first = [stage[0].conv1.weight for stage in (method.backbone.layer4, *(stage[0] for stage in method.stages))]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(first, 2))


def test_okds_kl_is_ramped_up_epoch_by_epoch_and_goes_on_after_a_restart():
    whole = {"trained_on": torch.zeros(20), "rampup_epochs": 4}  # 3 batches an epoch: 8, 8, 4
    method, weights = make("okd", **whole), []
    for step in range(18):
        if step == 7:
            state = method.state_dict()
            method = make("okd", **whole)
            method.load_state_dict(state)
        weights.append(method._rampup(8 if step % 3 < 2 else 4).item())
    expected = [math.exp(-5 * max(0, 1 - epoch / 4) ** 2) for epoch in range(6) for _ in range(3)]
    assert weights == pytest.approx(expected)


def test_okd_refuses_a_network_of_other_stages():
    with pytest.raises(UsageError, match="ResNet or ResNetV2"):
        create_method("okd", timm.create_model("mobilenetv3_small_050", num_classes=4), 4, {})


# -- CRD ---------------------------------------------------------------------------------------------------------------


UNEVEN = torch.tensor([7] * 5 + [-3] * 11 + [40] * 2 + [0] * 6)[torch.randperm(24, generator=generator())]
make_crd = partial(make, "crd", trained_on=UNEVEN)


def test_crd_of_two_batches_equals_the_released_implementation():
    inputs, expected = released("distillation")
    method = make_crd(trained_on=torch.arange(50) % 4, dimensions=6)
    for side in ("student", "teacher"):
        layer = torch.nn.Linear(inputs[f"crd_{side}"].shape[1], 6)
        layer.load_state_dict({"weight": inputs[f"crd_{side}_weight"], "bias": inputs[f"crd_{side}_bias"]})
        setattr(method, f"embed_{side}", layer)
        getattr(method, f"memory_{side}").copy_(inputs[f"crd_memory_{side}"])
    batch = [inputs[f"crd_{key}"] for key in ("student", "teacher", "index", "contrast_index")]

    assert method.contrastive(*batch).item() == pytest.approx(expected["crd_first_batch"], rel=1e-4)
    partition = method.partition.clone()
    assert partition.tolist() == pytest.approx(expected["crd_Z_student_teacher"], rel=1e-4)
    for side in ("student", "teacher"):
        after = inputs[f"crd_memory_{side}_after"]
        torch.testing.assert_close(getattr(method, f"memory_{side}"), after, rtol=1e-4, atol=1e-6)

    assert method.contrastive(*batch).item() == pytest.approx(expected["crd_second_call"], rel=1e-4)
    assert torch.equal(method.partition, partition)


def test_crds_negatives_are_uniform_over_the_images_of_other_classes():
    method = make_crd()
    assert method.draws == 24 - 11
    drawn = torch.cat([method.sample_negatives(torch.arange(24)) for _ in range(400)], dim=1)
    assert drawn.shape == (24, 13 * 400) and (UNEVEN[drawn] != UNEVEN[:, None]).all()
    for image in range(24):
        others = (UNEVEN[image] != UNEVEN).nonzero().flatten()
        counts = torch.bincount(drawn[image], minlength=24)[others]
        share = 13 * 400 / len(others)
        assert 0.7 * share < counts.min() and counts.max() < 1.3 * share


@pytest.mark.parametrize(("asked", "drawn"), [(16384, 13), (13, 13), (4, 4)])
def test_crd_has_no_more_negatives_than_images_outside_the_largest_class(asked, drawn):
    assert make_crd(negatives=asked).sample_negatives(torch.tensor([3, 3])).shape == (2, drawn)


def test_crds_step_uses_the_index_and_moves_those_rows_only():
    method = make_crd()
    before = method.memory_student.clone()
    index = torch.tensor([3, 20, 11, 6])
    method(torch.randn(4, 3, 16, 16), UNEVEN[index].clamp(0, 3), index)
    moved = (method.memory_student != before).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(index.tolist())
    torch.testing.assert_close(method.memory_student[index].norm(dim=1), torch.ones(4))


def test_crds_banks_and_partition_are_in_the_checkpoint():
    method, index = make_crd(), torch.arange(8)
    batch = torch.randn(8, 3, 16, 16), UNEVEN[index].clamp(0, 3), index
    method(*batch)
    state = method.state_dict()
    assert {"memory_student", "memory_teacher", "partition"} < state.keys()
    assert not {"by_class", "class_start", "class_size"} & state.keys()  # derived from the labels
    again = make_crd()
    again.load_state_dict(state)
    results = []
    for one in (method, again):
        torch.manual_seed(5)
        results.append(one(*batch)["contrastive"])
    assert torch.equal(*results)


# -- SSKD --------------------------------------------------------------------------------------------------------------


SIX = torch.tensor([0, 1, 2, 3, 0, 1])


def images():
    return draw_views(1, seed=2, batch=6)[0]


def make_sskd_teacher():
    """Return the teacher, and the network on whose features its head is trained."""
    trained = make("baseline", width=0.25, seed=1)
    return create_method("sskd_teacher", create_backbone("resnet18", 4, width=0.25), 4, {}, trained), trained


def test_sskds_rotated_copies_are_interleaved():
    batch = images()
    copies = rotated_copies(batch)
    assert copies.shape == (24, 3, 16, 16)
    for image in range(6):
        for turns in range(4):
            assert np.array_equal(copies[4 * image + turns], np.rot90(batch[image].numpy(), turns, axes=(1, 2)))


def test_sskds_terms_equal_the_released_implementation():
    inputs, expected = released("distillation")
    # Keep all wrong rows, because the released code chooses among equally ranked rows by chance (see tests/losses).
    sides = [inputs[f"sskd_{key}"] for key in ("student_logits", "student_ss", "teacher_logits", "teacher_ss")]
    terms = make("sskd", similarity_keep_wrong=1.0).terms(*sides, inputs["sskd_targets"])
    assert list(terms) == ["cross_entropy", "kd", "kd_rotated", "kd_similarity"]
    wanted = [w * v for w, v in zip((0.1, 0.9, 2.7, 10.0), expected["sskd_ce_kd_tf_ss"], strict=True)]
    assert sum(wanted) == pytest.approx(expected["sskd_total"], rel=1e-5)
    assert [terms[key].item() for key in ("cross_entropy", "kd", "kd_rotated")] == pytest.approx(wanted[:3], rel=1e-5)

    turned = torch.arange(24) % 4 != 0
    student, teacher = (F.cosine_similarity(z[turned][:, None], z[::4][None], dim=2) / 0.5 for z in sides[1::2])
    kl = F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")
    torch.testing.assert_close(terms["kd_similarity"], 10 * 0.5**2 * kl)


def test_sskds_student_sees_what_the_networks_and_heads_return():
    method, batch, sides = make("sskd"), images(), []
    for side in (method, method.teacher):
        features = []
        hook = side.backbone.fc.register_forward_hook(lambda _, given, __, f=features: f.append(given[0]))
        logits = side.backbone(rotated_copies(batch))
        hook.remove()
        sides += [logits, side.head(features[0])]
    expected = method.terms(*sides, SIX)
    for name, value in method(batch, SIX).items():
        torch.testing.assert_close(value, expected[name])


def test_sskds_teacher_trains_its_head_on_frozen_features():
    method, trained = make_sskd_teacher()
    method.train()
    assert not any(module.training for module in method.backbone.modules())
    learning = [name for name, p in method.named_parameters() if p.requires_grad]
    assert learning == ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.2, momentum=0.9)
    colours = 2 * torch.randn(6, 3, 1, 1, generator=generator())  # colours do not rotate
    history = []
    for _ in range(20):
        terms = method(colours + 0.3 * images(), SIX)
        assert list(terms) == ["self_supervision"]
        optimizer.zero_grad()
        terms["self_supervision"].backward()
        optimizer.step()
        history.append(terms["self_supervision"].item())
    assert history[-1] < 0.9 * history[0]
    before = trained.backbone.state_dict()
    assert all(torch.equal(before[key], value) for key, value in method.backbone.state_dict().items())


def test_sskds_teachers_loss_by_a_loop():
    (method, _), batch = make_sskd_teacher(), images()
    embed = lambda x: method.head(method.backbone.forward_head(method.backbone.forward_features(x), pre_logits=True))  # noqa: E731
    upright, total = embed(batch), 0.0
    for turns in (1, 2, 3):
        rotated = embed(torch.rot90(batch, turns, (2, 3)))
        for image in range(6):
            scores = F.cosine_similarity(rotated[image], upright, dim=1)
            total += torch.logsumexp(scores, 0) - scores[image]
    torch.testing.assert_close(method(batch, SIX)["self_supervision"], total / 18)
