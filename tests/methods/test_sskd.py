"""SSKD: rotations, the teacher's head, and the student's terms against the released values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cds_lib.errors import UsageError
from cds_lib.methods.sskd import rotated_copies
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from toys import draw_views, generator, make, released

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def images():
    return draw_views(1, seed=2, batch=6)[0]


def make_sskd_teacher():
    """The teacher, and the network whose features its head is trained on."""
    trained = make("baseline", width=0.25, seed=1)
    return create_method("sskd_teacher", create_backbone("resnet18", 4, width=0.25), 4, {}, trained), trained


def test_rotated_copies_are_interleaved():
    batch = images()
    copies = rotated_copies(batch)
    assert copies.shape == (24, 3, 16, 16)
    for image in range(6):
        for turns in range(4):
            assert np.array_equal(copies[4 * image + turns], np.rot90(batch[image].numpy(), turns, axes=(1, 2)))


def test_terms_equal_the_released_implementation():
    inputs, expected = released("distillation")
    # All wrong rows are kept here: the release chooses among equally ranked ones by chance (see tests/losses).
    sides = [inputs[f"sskd_{key}"] for key in ("student_logits", "student_ss", "teacher_logits", "teacher_ss")]
    terms = make("sskd", similarity_keep_wrong=1.0).terms(*sides, inputs["sskd_targets"])
    assert list(terms) == ["cross_entropy", "kd", "kd_rotated", "kd_similarity"]
    wanted = [w * v for w, v in zip((0.1, 0.9, 2.7, 10.0), expected["sskd_ce_kd_tf_ss"], strict=True)]
    assert sum(wanted) == pytest.approx(expected["sskd_total"], rel=1e-5)
    assert [terms[key].item() for key in ("cross_entropy", "kd", "kd_rotated")] == pytest.approx(wanted[:3], rel=1e-5)

    student, teacher = (
        F.cosine_similarity(z[torch.arange(24) % 4 != 0][:, None], z[::4][None], dim=2) / 0.5 for z in sides[1::2]
    )
    kl = F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")
    torch.testing.assert_close(terms["kd_similarity"], 10 * 0.5**2 * kl)


def test_the_student_sees_what_the_networks_and_heads_return():
    method, batch, sides = make("sskd"), images(), []
    for side in (method, method.teacher):
        features = []
        hook = side.backbone.fc.register_forward_hook(lambda _, given, __, f=features: f.append(given[0]))
        logits = side.backbone(rotated_copies(batch))
        hook.remove()
        sides += [logits, side.head(features[0])]
    expected = method.terms(*sides, LABELS)
    for name, value in method(batch, LABELS).items():
        torch.testing.assert_close(value, expected[name])


def test_the_teachers_head_is_trained_on_frozen_features():
    method, trained = make_sskd_teacher()
    method.train()
    assert not any(module.training for module in method.backbone.modules())
    learning = [name for name, p in method.named_parameters() if p.requires_grad]
    assert learning == ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.2, momentum=0.9)
    colours = 2 * torch.randn(6, 3, 1, 1, generator=generator())  # which do not turn
    history = []
    for _ in range(20):
        terms = method(colours + 0.3 * images(), LABELS)
        assert list(terms) == ["self_supervision"]
        optimizer.zero_grad()
        terms["self_supervision"].backward()
        optimizer.step()
        history.append(terms["self_supervision"].item())
    assert history[-1] < 0.9 * history[0]
    before = trained.backbone.state_dict()
    assert all(torch.equal(before[key], value) for key, value in method.backbone.state_dict().items())


def test_the_teachers_loss_by_a_loop():
    (method, _), batch = make_sskd_teacher(), images()
    embed = lambda x: method.head(method.backbone.forward_head(method.backbone.forward_features(x), pre_logits=True))  # noqa: E731
    upright, total = embed(batch), 0.0
    for turns in (1, 2, 3):
        rotated = embed(torch.rot90(batch, turns, (2, 3)))
        for image in range(6):
            scores = F.cosine_similarity(rotated[image], upright, dim=1)
            total += torch.logsumexp(scores, 0) - scores[image]
    torch.testing.assert_close(method(batch, LABELS)["self_supervision"], total / 18)


@pytest.mark.parametrize(("name", "says"), [("sskd", "an SSKDTeacher"), ("sskd_teacher", "teacher's own network")])
def test_other_teachers_are_refused(name, says):
    with pytest.raises(UsageError, match=says):
        make(name, teacher=make("baseline", width=0.25))
