"""Count the cost of a run without training it: floating-point operations and the bytes of its files.

A step is built and run on meta tensors, which have shapes but no memory. PyTorch's own counter adds up the convolutions
and matrix products of all networks in the step, at two operations per multiply-accumulate. Batch norms, activations,
augmentation and the optimizer are not counted. It takes about half a second per run; runs that differ in seed share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cds_lib.study.data import registry, standin
from cds_lib.study.engines import build
from cds_lib.study.plan.spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

    from cds_lib.methods.method import Method

# The rate that turns training FLOPs into GPU-hours. It is published, not measured here: the README of airbench states
# 32.3 PFLOP in 7 minutes on one A100 for its standard ResNet-18 on CIFAR-10 (200 epochs of 50,000 images). It counts as
# we do: 3 x 2 x 0.556 GMAC per image make 33.4 PFLOP.
TERAFLOPS = 77
THROUGHPUT = f"{TERAFLOPS} TFLOP/s on an A100, as published for ResNet-18 on CIFAR-10 (airbench: 32.3 PFLOP in 7 min)"

_STANDIN_RATIO, _PHOTOGRAPH_RATIO = 1.0, 4 / 3  # long side / short side of detection images: synthetic, most of COCO
_PADDED_TO = 32  # torchvision pads a batch of images to a multiple of this


@dataclass(frozen=True)
class StepCost:
    """Cost of a step. train_flops: forward and backward pass of a full batch; eval_flops: forward pass of one image, 0
    if the method is not evaluated; model_bytes: the method's state tensors; checkpoint_bytes: with the optimizer's."""

    train_flops: int
    eval_flops: int
    model_bytes: int
    checkpoint_bytes: int


@dataclass(frozen=True)
class Cost:
    """Cost of one run or several. flops: training and evaluation; model_bytes: tensors in model.pt, which is kept;
    checkpoint_bytes: tensors in checkpoint.pt, which exists while a run trains (of several runs, the largest)."""

    flops: float = 0.0
    model_bytes: int = 0
    checkpoint_bytes: int = 0

    @property
    def gpu_hours(self) -> float:
        """Hours on one GPU at the rate `TERAFLOPS`."""
        return self.flops / (TERAFLOPS * 1e12) / 3600


def run_cost(spec: RunSpec) -> Cost:
    """Return the cost of one run, without the runs it starts from.

    The images are those of the complete set (`data/registry.toml`), or as many of them as the budget takes. For COCO
    all training images count, although training leaves out about one in a hundred, which has no object. The last,
    smaller batch of an epoch counts in proportion to its images.
    """
    budget, step = spec.budget, step_cost(spec)
    images, evaluated = image_counts(spec)
    # As in the training loop: every `eval_every` epochs, and after the last epoch.
    evaluations = budget.epochs // budget.eval_every + (budget.epochs % budget.eval_every > 0)
    trained = step.train_flops / budget.batch_size * images * budget.epochs
    return Cost(trained + float(step.eval_flops) * evaluated * evaluations, step.model_bytes, step.checkpoint_bytes)


def total(specs: Iterable[RunSpec]) -> Cost:
    """Return the cost of all these runs, each counted once."""
    costs = [run_cost(spec) for spec in {spec.id: spec for spec in specs}.values()]
    return Cost(
        sum(cost.flops for cost in costs),
        sum(cost.model_bytes for cost in costs),
        max((cost.checkpoint_bytes for cost in costs), default=0),
    )


_entry = cache(registry.entry)  # it reads a file, and there are hundreds of runs


def image_counts(spec: RunSpec) -> tuple[int, int]:
    """Return the number of images in a training epoch and in an evaluation (test and validation)."""
    budget, known = spec.budget, _entry(spec.dataset)
    if budget.source == "real":
        train, test = known.train, known.test
    elif spec.detects:
        train, test = standin.COCO_TRAIN, standin.COCO_VAL
    else:
        train, test = max(standin.TRAIN, known.classes), max(standin.TEST, known.classes)
    train = min(train - budget.val_size, budget.train_size or train)
    if spec.labelled is not None and not spec.uses_unlabelled:
        train = round(spec.labelled * train)
    if not spec.detects:
        train -= train % budget.batch_size == 1  # a last batch of a single image is left out
    return train, test + budget.val_size


def step_cost(spec: RunSpec) -> StepCost:
    """Return the cost of a step of this run, counted once for all its seeds."""
    key = spec.with_seed(0).id
    if key not in _counted:
        _counted[key] = _count(spec)
    return _counted[key]


_counted: dict[str, StepCost] = {}


def _count(spec: RunSpec) -> StepCost:
    """Build the run's method on meta tensors and count a step of it."""
    import torch

    classes = _entry(spec.dataset).classes
    images, _ = image_counts(spec)
    with torch.device("meta"):
        backbone = build.backbone(spec.parent, 1) if spec.detects else None
        method = build.detector(spec, backbone, classes) if spec.detects else build.classifier(spec, classes)
    method.train()
    method.prepare(torch.arange(images) % classes)
    state = sum(t.numel() * t.element_size() for t in method.state_dict().values())
    trained = [p for p in method.parameters() if p.requires_grad]
    _skip_norms(method)
    step = _detector_outputs if spec.detects else _classifier_loss
    train_flops = _flops(lambda: _backward(step(method, spec, spec.budget.batch_size)))
    evaluated = 0
    if method.classifies:
        network, side = method.backbone.eval(), spec.budget.image_size
        image = torch.empty(1, 3, side, side, device="meta")
        with torch.no_grad():
            evaluated = _flops(lambda: step(method, spec, 1) if spec.detects else network(image))
    return StepCost(
        train_flops=train_flops,
        eval_flops=evaluated,
        model_bytes=state,
        checkpoint_bytes=state + sum(p.numel() * p.element_size() for p in trained),  # one momentum buffer each
    )


def _skip_norms(method: Method) -> None:
    """Turn batch norms into identities. They are not counted, and on meta tensors they take most of the time."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.forward = lambda images: images
    if method.teacher is not None:  # the teacher is not among the method's modules
        _skip_norms(method.teacher)


def _flops(call: Any) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # The counter of PyTorch 2.14 has two errors. It counts the weight gradient of a grouped convolution as that of a
    # full one (512 times too much for a depthwise convolution of 512 channels), and it lacks the in-place `baddbmm_`.
    corrected = {
        torch.ops.aten.convolution_backward: _convolution_backward_flops,
        torch.ops.aten.baddbmm_: lambda _, left, right, **rest: 2 * math.prod(left) * right[2],
    }
    with FlopCounterMode(display=False, custom_mapping=corrected) as counter:
        call()
    return counter.get_total_flops()


def _convolution_backward_flops(
    gradient: Any, images: Any, weights: Any, *more: Any, output_mask: Any = None, **rest: Any
) -> int:
    """Count the forward FLOPs once for the input gradient and once for the weight gradient, where these are wanted."""
    wanted = more[-1] if output_mask is None else output_mask
    forward = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weights)
    return forward * (wanted[0] + wanted[1])


def _backward(outputs: list[Tensor]) -> None:
    import torch

    outputs = [output for output in outputs if output.requires_grad]
    torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])


def _classifier_loss(method: Method, spec: RunSpec, batch: int) -> list[Tensor]:
    import torch

    side = spec.budget.image_size
    views = [torch.empty(batch, 3, side, side, device="meta") for _ in range(method.views)]
    labels = torch.empty(batch, dtype=torch.int64, device="meta")
    more = {"index": labels} if method.needs_index else {}
    return [sum(method(*views, labels=labels, **more).values())]


def _detector_outputs(method: Method, spec: RunSpec, batch: int) -> list[Tensor]:
    """Run the networks of a detector one by one. Matching and suppressing boxes is left out: it has no products, and it
    needs values, which meta tensors do not have. Per image, the box head of Faster R-CNN sees as many boxes as it
    samples, or in evaluation as many as are proposed."""
    import torch

    detector, side = method.backbone, spec.budget.image_size
    ratio = _STANDIN_RATIO if spec.budget.source == "standin" else _PHOTOGRAPH_RATIO
    sides = [-(-round(length) // _PADDED_TO) * _PADDED_TO for length in (side, side * ratio)]
    maps = list(detector.backbone(torch.empty(batch, 3, *sides, device="meta")).values())
    if not hasattr(detector, "roi_heads"):
        return list(detector.head(maps).values())
    scores, offsets = detector.rpn.head(maps)
    heads = detector.roi_heads
    boxes = heads.fg_bg_sampler.batch_size_per_image if detector.training else detector.rpn.post_nms_top_n()
    side = heads.box_roi_pool.output_size[0]
    pooled = torch.empty(batch * boxes, maps[0].shape[1], side, side, device="meta")
    pooled.requires_grad_(torch.is_grad_enabled())
    return [*scores, *offsets, *heads.box_predictor(heads.box_head(pooled.flatten(1)))]
