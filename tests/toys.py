"""Helpers for tests of the library: seeded numbers, small methods with their teachers, released values."""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from cds_lib.study.plan.spec import Budget

GOLDEN = Path(__file__).parent / "golden"
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
TRAINED_ON = torch.arange(12) % 4
INDEX = torch.tensor([5, 2, 7, 0, 9, 4, 3, 6])  # positions of eight images in TRAINED_ON
TAUGHT = "kd at rkd sp cc crd sskd cds_kd".split()
TEACHERS = {"cds_kd": "cds", "sskd": "sskd_teacher"}  # other methods take any teacher


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def noise(count, side, seed=0):
    """Return random uint8 images."""
    return torch.randint(256, (count, 3, side, side), generator=generator(seed), dtype=torch.uint8)


def write_images(folder, counts, classes, image, suffix="png"):
    """Write class folders under each part, with `counts` images per class: image(part, label, number) -> (H, W, 3)."""
    for part, count in counts.items():
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(image(part, label, number)).save(folder / part / name / f"{number}.{suffix}")
    return folder


def draw_views(count, seed=1, batch=8):
    return list(normal(count, batch, 3, 16, 16, seed=seed, dtype=torch.float32))


def released(name):
    """Return inputs and the results of the official implementations for them."""
    inputs = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / f"{name}.npz").items()}
    return inputs, json.loads((GOLDEN / f"{name}.json").read_text())


class Evil:
    """An object that is pickled as a function call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def places(value, path=()):
    """Yield the paths of all values in nested dicts and lists, starting with the root."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def make_teacher(student, width=0.25, **options):
    """Return the untrained teacher for a method."""
    torch.manual_seed(1)
    network, kind = create_backbone("resnet18", 4, width=width), TEACHERS.get(student, "baseline")
    trained = create_method("baseline", copy.deepcopy(network), 4, {}) if kind == "sskd_teacher" else None
    return create_method(kind, network, 4, options, trained)


def make(name, model="resnet18", *, seed=0, width=0.125, teacher=None, trained_on=TRAINED_ON, **options):
    """Return a method with four classes and the teacher that it needs."""
    if name in TAUGHT and teacher is None:
        teacher = make_teacher(name)
    torch.manual_seed(seed)
    method = create_method(name, create_backbone(model, 4, width=width), 4, options, teacher)
    method.prepare(trained_on)
    return method


def terms_of(method, *views, labels=LABELS):
    """Return the losses of a step, on the given views or on drawn ones."""
    index = {"index": INDEX} if method.needs_index else {}
    return method(*(views or draw_views(method.views)), labels=labels, **index)


def maps_of(network, images):
    """Return the maps of the four stages of a ResNet, computed with its own modules."""
    maps, x = [], network.act1(network.bn1(network.conv1(images)))
    for stage in range(1, 5):
        x = getattr(network, f"layer{stage}")(x)
        maps.append(x)
    return maps


def check_initialisation(module):
    """Check He initialisation of convolutions (fan-out of all output channels, even depthwise), norms of 1 and 0."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            drawn = layer.weight * (layer.out_channels * layer.kernel_size[0] ** 2 / 2) ** 0.5
            assert (
                abs(drawn.std() - 1) < 4 / (2 * drawn.numel()) ** 0.5 and abs(drawn.mean()) < 4 / drawn.numel() ** 0.5
            ), name
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.eq(1).all() and layer.bias.eq(0).all(), name


def without_gradient(module):
    """Return the parameters whose gradient is missing or not finite."""
    return [name for name, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def make_budget(**changes):
    """Return the budget of a training that takes some seconds."""
    values = {
        "source": "standin", "image_size": 8, "stem": "cifar", "width": 0.125, "train_size": None, "val_size": 0,
        "epochs": 4, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine",
        "milestones": None, "warmup_epochs": 1, "eval_every": 2, "precision": "fp32", "cutout": False,
    }  # fmt: skip
    return Budget(**values | changes)
