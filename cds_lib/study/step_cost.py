"""What one training step of a run costs: counted on meta tensors, which have shapes and no memory.

Counts of the study's runs are kept in step_costs.json beside this file, so that asking for them needs neither torch nor
minutes; what is not there is counted when it is asked for. `python -m cds_lib.study.step_cost` counts what is missing
in the file and drops what no run needs any more; delete the file to count everything again.
"""

from __future__ import annotations

import json
import math
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cds_lib.data import coco_standin, registry, standin
from cds_lib.errors import UsageError
from cds_lib.files import write_text
from cds_lib.study import build, protocols
from cds_lib.study.spec import RunSpec
from cds_lib.study.tables import official

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cds_lib.methods.method import Method

KEPT = Path(__file__).with_name("step_costs.json")

# Methods that keep something of every training image.
_WITH_BANKS = ("crd",)

_STANDIN_RATIO, _PHOTOGRAPH_RATIO = 1.0, 4 / 3  # long side to short of detection images: made ones, most of COCO's
_PADDED_TO = 32  # torchvision pads a batch of images to a multiple of this


@dataclass(frozen=True)
class StepCost:
    """train_flops: forward and backward of a full batch; eval_flops: forward of one image, 0 where the method is not
    evaluated; parameters: of the method, its teacher's not among them; model_bytes, checkpoint_bytes: the tensors of
    the method's state, and with the optimizer's."""

    train_flops: int
    eval_flops: int
    parameters: int
    model_bytes: int
    checkpoint_bytes: int


def step_cost(spec: RunSpec) -> StepCost:
    """The cost of a step of this run: kept, or counted now."""
    key = step_key(spec)
    if key in _kept():
        return _kept()[key]
    if key not in _counted:
        _counted[key] = count(spec)
    return _counted[key]


def is_kept(spec: RunSpec) -> bool:
    """Whether `step_cost` answers at once."""
    return step_key(spec) in _kept()


_counted: dict[str, StepCost] = {}


@cache
def _kept() -> dict[str, StepCost]:
    return {key: StepCost(*values) for key, values in json.loads(KEPT.read_text()).items()} if KEPT.exists() else {}


_entry = cache(registry.entry)  # it reads a file, and there are hundreds of runs


def step_key(spec: RunSpec) -> str:
    """All that decides the cost of a step, and nothing else: runs of one key cost the same."""
    budget, known = spec.budget, _entry(spec.dataset)
    shape = f"{budget.image_size}px{'' if budget.source == 'real' else ' stand-in'} batch {budget.batch_size}"
    parts = [_network_key(spec), shape, f"{known.classes} classes"]
    if spec.method in _WITH_BANKS:
        parts.append(f"{image_counts(spec)[0]} images")
    if spec.teacher or spec.detects:
        parts.append(f"on {_network_key(spec.parent)}")
        if spec.parent.teacher:
            parts.append(f"on {_network_key(spec.parent.teacher)}")
    return ", ".join(parts)


def _network_key(spec: RunSpec) -> str:
    # A real number among the options is a weight, a temperature or a momentum, and changes no shape.
    shapes = {name: value for name, value in spec.options.items() if not isinstance(value, float)}
    options = f" {json.dumps(shapes, sort_keys=True)}" if shapes else ""
    return f"{spec.method} {spec.model} {spec.budget.stem} {spec.budget.width:g}{options}"


def image_counts(spec: RunSpec, data: tuple[int, int] | None = None) -> tuple[int, int]:
    """Images of a training epoch, and images of an evaluation (test and validation).

    `data`: training and test images of the set that is at hand; None: the complete set, as its registry entry has it.
    """
    budget, known = spec.budget, _entry(spec.dataset)
    if budget.source == "real":
        train, test = data or (known.train, known.test)
    elif spec.detects:
        train, test = coco_standin.TRAIN, coco_standin.VAL
    else:
        train, test = max(standin.TRAIN, known.classes), max(standin.TEST, known.classes)
    train = min(train - budget.val_size, budget.train_size or train)
    if spec.labelled is not None and not spec.uses_unlabelled:
        train = round(spec.labelled * train)
    if not spec.detects:
        train -= train % budget.batch_size == 1  # no batch of a single image
    if train < 1:
        raise UsageError(f"{spec.label} has no image to train on: {budget.val_size:,} are held back to validate.")
    return train, test + budget.val_size


def count(spec: RunSpec) -> StepCost:
    """Build the run's method on meta tensors and count a step of it."""
    import torch

    classes = _entry(spec.dataset).classes
    images, _ = image_counts(spec)
    with torch.device("meta"):
        if spec.detects:
            method = build.detector(spec, build.backbone(spec.parent, 1), classes)
        else:
            method = build.classifier(spec, classes)
    method.train()
    method.prepare(torch.arange(images) % classes)
    state = sum(t.numel() * t.element_size() for t in method.state_dict().values())
    trained = [p for p in method.parameters() if p.requires_grad]
    _skip_norms(method)
    step = _detector_step if spec.detects else _classifier_step
    train_flops = _flops(lambda: _backward(step(method, spec, spec.budget.batch_size)))
    evaluated = 0
    if method.classifies:
        method.backbone.eval()
        with torch.no_grad():
            evaluated = _flops(lambda: _evaluation(method.backbone, spec))
    return StepCost(
        train_flops=train_flops,
        eval_flops=evaluated,
        parameters=sum(p.numel() for p in method.parameters()),
        model_bytes=state,
        checkpoint_bytes=state + sum(p.numel() * p.element_size() for p in trained),  # a momentum for each
    )


def _skip_norms(method: Method) -> None:
    """Let batch norms pass their input on: they are not counted, and on meta tensors they take most of the time."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.forward = lambda images: images
    if method.teacher is not None:  # it is not among the method's modules
        _skip_norms(method.teacher)


def _flops(call: Any) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # What the counter of PyTorch 2.14 gets wrong: it takes the gradient of a grouped convolution's weights for that of
    # a full one (512 times too much for a depthwise convolution of 512 channels), and knows `baddbmm` but not in place.
    corrected = {
        torch.ops.aten.convolution_backward: _convolution_backward_flops,
        torch.ops.aten.baddbmm_: _product_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=corrected) as counter:
        call()
    return counter.get_total_flops()


def _convolution_backward_flops(
    gradient: Any, images: Any, weights: Any, *more: Any, output_mask: Any = None, **rest: Any
) -> int:
    """As many as forward for the gradient of the input, and again for that of the weights, where they are wanted."""
    wanted = more[-1] if output_mask is None else output_mask
    forward = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weights)
    return forward * (wanted[0] + wanted[1])


def _product_flops(_: Any, left: Any, right: Any, **rest: Any) -> int:
    return 2 * left[0] * left[1] * left[2] * right[2]


def _backward(outputs: list[Tensor]) -> None:
    import torch

    outputs = [output for output in outputs if output.requires_grad]
    torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])


def _classifier_step(method: Method, spec: RunSpec, batch: int) -> list[Tensor]:
    import torch

    side = spec.budget.image_size
    views = [torch.empty(batch, 3, side, side, device="meta") for _ in range(method.views)]
    labels = torch.empty(batch, dtype=torch.int64, device="meta")
    more = {"index": labels} if method.needs_index else {}
    return [sum(method(*views, labels=labels, **more).values())]


def _detector_step(method: Method, spec: RunSpec, batch: int) -> list[Tensor]:
    """The networks of a detector one by one: matching and suppressing boxes needs their values, which meta tensors do
    not have, and no products. Faster R-CNN's box head sees as many boxes an image as it samples."""
    detector = method.backbone
    boxes = detector.roi_heads.fg_bg_sampler.batch_size_per_image if hasattr(detector, "roi_heads") else 0
    return _detector_outputs(detector, spec, batch, boxes)


def _detector_outputs(detector: nn.Module, spec: RunSpec, batch: int, boxes: int) -> list[Tensor]:
    import torch

    ratio = _STANDIN_RATIO if spec.budget.source == "standin" else _PHOTOGRAPH_RATIO
    sides = [
        -(-round(side) // _PADDED_TO) * _PADDED_TO for side in (spec.budget.image_size, spec.budget.image_size * ratio)
    ]
    maps = list(detector.backbone(torch.empty(batch, 3, *sides, device="meta")).values())
    if not boxes:
        return list(detector.head(maps).values())
    scores, offsets = detector.rpn.head(maps)
    side = detector.roi_heads.box_roi_pool.output_size[0]
    pooled = torch.empty(batch * boxes, maps[0].shape[1], side, side, device="meta")
    pooled.requires_grad_(torch.is_grad_enabled())
    return [*scores, *offsets, *detector.roi_heads.box_predictor(detector.roi_heads.box_head(pooled.flatten(1)))]


def _evaluation(backbone: nn.Module, spec: RunSpec) -> None:
    import torch

    if spec.detects:
        _detector_outputs(backbone, spec, 1, backbone.rpn.post_nms_top_n() if hasattr(backbone, "rpn") else 0)
    else:
        backbone(torch.empty(1, 3, spec.budget.image_size, spec.budget.image_size, device="meta"))


def main() -> None:
    """Bring step_costs.json up to date with the runs of the study."""
    specs = {
        step_key(spec): spec
        for profile in protocols.PROFILES
        for table in official()
        for spec in table.runs(profile, (0,))
    }
    found = {key: astuple(step_cost(spec)) for key, spec in sorted(specs.items())}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(list(values))}" for key, values in found.items())
    write_text(KEPT, f"{{\n{lines}\n}}\n")
    print(f"{KEPT.name}: {len(found)} steps, {len(_counted)} of them counted now.")


if __name__ == "__main__":
    main()
