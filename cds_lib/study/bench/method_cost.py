"""What a method's step costs beside the arithmetic of its networks.

Forward and backward of every method of the study against bare forward and backward passes of all its networks (student,
heads, branches; the teacher's forward) on the same views. The student is the mini profile's resnet18, the teacher its
resnet50, batch 64 at 16x16 pixels, 100 classes, 10,000 training images. A bank's products with every anchor count as
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from cds_lib.methods.method import Method
from cds_lib.methods.sskd import rotated_copies
from cds_lib.models import create_backbone, forward_stages, pooled, pooled_and_logits, stage_taps
from cds_lib.study import protocols
from cds_lib.study.bench.timing import Row, interleaved
from cds_lib.study.build import create_method
from cds_lib.study.catalogue import METHODS

BATCH, SIZE, CLASSES, IMAGES = 64, 16, 100, 10_000
TEACHERS = {"sskd": "sskd_teacher", "cds_kd": "cds"}
MEASURED = [name for name in METHODS if name != "detection"]  # whose step is that of other networks


def backbone(model: str) -> nn.Module:
    width = protocols.budget("mini", "cifar", model).width
    return create_backbone(model, CLASSES, width=width).to(memory_format=torch.channels_last)


def build(name: str) -> Method:
    teacher = None
    if name in TEACHERS or name in "kd at rkd sp cc crd sskd_teacher".split():
        what = TEACHERS.get(name, "baseline")
        below = create_method("baseline", backbone("resnet50"), CLASSES, {}) if what == "sskd_teacher" else None
        teacher = create_method(what, backbone("resnet50"), CLASSES, {}, below)
    options = {"epochs": 30, "hidden": 256, "dimensions": 64} if name == "byol" else {}
    net = backbone("resnet50" if name == "sskd_teacher" else "resnet18")
    method = create_method(name, net, CLASSES, options, teacher).to(memory_format=torch.channels_last).train()
    method.prepare(torch.arange(IMAGES) % CLASSES)
    return method


def bare(method: Method, name: str, views: tuple[Tensor, ...]) -> list[Tensor]:
    """The outputs of the method's networks on its views: their forward passes and nothing else."""
    images = torch.cat(views) if len(views) > 1 else views[0]
    if name in ("sskd", "sskd_teacher"):
        images = rotated_copies(images)
    with torch.no_grad():
        targets = networks(method.teacher, images) if method.teacher is not None else []
        if name == "byol":
            targets = [method.target[1](pooled(method.target[0], method.target[0].forward_features(images)))]
    outputs = networks(method, images)
    if name == "byol":
        outputs[-1] = method.predictor(outputs[-1])
    if name == "crd":
        outputs = [outputs[0], method.embed_student(outputs[1]) @ method.memory_teacher.T]
        outputs.append(method.embed_teacher(targets[1]) @ method.memory_student.T)
    if name == "cc":
        outputs = [outputs[0], method.embed_student(outputs[1]), method.embed_teacher(targets[1])]
    if name == "cds_kd":
        outputs += [one(z) for one, z in zip(method.adapters, outputs[1:], strict=False)]
    return outputs


def networks(method: Method, images: Tensor) -> list[Tensor]:
    """Logits, the pooled vector, and what heads and branches make of the stages."""
    net = method.backbone
    indices = stage_taps(net).indices
    frozen = not any(p.requires_grad for p in net.layer1.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        maps, features = forward_stages(net, images, indices)
    vector, logits = pooled_and_logits(net, features)
    outputs = [logits, vector]
    heads = getattr(method, "heads", None)
    if heads is not None:
        outputs += [h(m) for h, m in zip(heads.values() if hasattr(heads, "values") else heads, maps, strict=False)]
    for name in ("head", "projector"):
        if hasattr(method, name):
            outputs.append(getattr(method, name)(vector))
    for branch, m in zip(getattr(method, "branches", ()), maps[1:3], strict=False):
        outputs.append(branch(m))
    outputs += [stage(maps[-2]).mean((2, 3)) for stage in getattr(method, "stages", ())]
    return outputs


def rows(rounds: int) -> Iterator[Row]:
    """One row per method, of a step."""
    for name in MEASURED:
        yield Row("method_cost", name, *interleaved(*_steps(name), rounds))


def _steps(name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of the method, and the bare passes."""
    torch.manual_seed(0)
    method = build(name)
    views = tuple(
        torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last) for _ in range(method.views)
    )
    labels, index = torch.randint(CLASSES, (BATCH,)), torch.randperm(IMAGES)[:BATCH]
    more = {"index": index} if method.needs_index else {}

    def step() -> None:
        sum(method(*views, labels=labels, **more).values()).backward()
        method.zero_grad(set_to_none=True)

    def passes() -> None:
        outputs = [output for output in bare(method, name, views) if output.requires_grad]
        torch.autograd.backward(outputs, [torch.full_like(output, 1e-6) for output in outputs])
        method.zero_grad(set_to_none=True)

    return step, passes
