"""Views of one batch, by name and of one's own; and the functions that they have replaced."""

from pathlib import Path

import pytest
import torch

from cds_lib.augment import AUGMENTATIONS, CIFAR, Batches, Colour, PaddedView, View, two_views
from toys import generator, noise


def test_views_by_name_are_those_of_the_protocol():
    images = noise(6, 32)
    found, drawn = two_views(images, generator=generator()), generator()
    for view, ours in zip(CIFAR, found, strict=True):
        assert torch.equal(ours, view.apply(images, view.draw(6, 32, 32, drawn), 32))
    for name in AUGMENTATIONS:
        first, second = two_views(images, name, 24, generator())
        assert first.shape == second.shape == (6, 3, 24, 24) and not torch.equal(first, second)


def test_without_a_generator_the_global_seed_decides():
    images, states = noise(4, 16), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(two_views(images)[1])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_views_of_ones_own_are_trained_with_like_the_named_ones():
    views = (View(0.5, colour=Colour(blur_p=1.0)), PaddedView(padding=2, mean=(0, 0, 0), std=(1, 1, 1)))
    batches = Batches(noise(10, 32), torch.arange(10), batch_size=4, seed=0, augmentation=views, size=24)
    epoch = list(batches.epoch(0))
    shapes = [tuple(view.shape) for found, _, _ in epoch for view in found]
    assert shapes == [(n, 3, 24, 24) for n in (4, 4, 4, 4, 2, 2)]
    assert all(0 <= second.min() <= second.max() <= 1 for (_, second), _, _ in epoch)
    named, given = (
        Batches(noise(10, 32), torch.arange(10), batch_size=4, seed=0, **how) for how in ({}, {"augmentation": CIFAR})
    )
    for (one, _, _), (other, _, _) in zip(named.epoch(1), given.epoch(1), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_views_made_under_autocast_are_the_same():
    views = (View(0.5, colour=Colour(blur_p=1.0)), PaddedView(colour=True, cutout=True))
    plain = two_views(noise(6, 32), views, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        inside = two_views(noise(6, 32), views, generator=generator())
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


def test_a_device_is_not_waited_for_and_a_seed_gives_the_views_of_the_cpu(python):
    program = """
import torch, standin_gpu
from cds_lib.augment import Colour, PaddedView, two_views
images, device = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), standin_gpu.register()
views, made = (PaddedView(cutout=True), PaddedView(colour=Colour(blur_p=0.5, solarise_p=0.5))), []
for place in (images, images.to(device), images.to(device)):
    standin_gpu.WAITS.clear()  # the first time there, constants are copied
    torch.manual_seed(0)
    made.append(two_views(place, views))
print(dict(standin_gpu.WAITS), all(torch.equal(a, b.memory) for a, b in zip(made[0], made[2])))
"""
    path = Path(__file__).parents[1]
    assert python(program, PYTHONPATH=f"{path.parent}:{path}") == "{} True"


@pytest.mark.parametrize("views", ["cifar", "finetune"])
def test_views_larger_than_a_crop_can_be_are_refused(views):
    with pytest.raises(ValueError, match="A crop of 48 cannot be cut from images of 32"):
        two_views(noise(2, 32), views, size=48)
    assert two_views(noise(2, 32), "contrastive", size=48)[0].shape[2:] == (48, 48)


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 9, dtype=torch.uint8)])
def test_other_images_are_refused(images):
    with pytest.raises(ValueError, match=r"Images must be \(B, 3, S, S\) uint8"):
        two_views(images)
