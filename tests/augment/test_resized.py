"""Crops, flips and AutoAugment of larger images against Pillow and torchvision."""

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from PIL import Image
from scipy import stats

from cds_lib.augment.pixels import normalise
from cds_lib.augment.resized import DRAWS, View, _resize_each, _resize_together, autoaugment, resized_crop
from cds_lib.augment.views import AUGMENTATIONS, statistics
from toys import generator, noise


def pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def boxes(view, n, height, width, size):
    uniform = torch.rand(n, DRAWS, generator=generator(), dtype=torch.float64)
    return view.boxes(uniform, torch.full((n,), height), torch.full((n,), width), size)


WAYS = [_resize_each, _resize_together]  # on the CPU, and on other devices


@pytest.mark.parametrize("resize", WAYS)
@pytest.mark.parametrize("size", [14, 28, 50])  # shrinks crops, does both, enlarges crops
def test_resized_crops_have_the_pixels_of_pillow(resize, size):
    images, places = noise(40, 32), boxes(View(0.08), 40, 32, 32, size)
    flip = torch.arange(40) % 3 == 0
    ours = resize(images, places, flip, size)
    ours = torch.where(flip[:, None, None, None], ours.flip(3), ours).numpy().astype(int)
    theirs = np.empty_like(ours)
    for image, (top, left, height, width), out in zip(images, places.tolist(), theirs, strict=True):
        crop = pillow(image).crop((left, top, left + width, top + height))
        out[:] = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    difference = np.abs(ours - theirs)  # Pillow's rounded weights decide ties at a half
    assert difference.max() <= 2 and (difference > 0).mean() < 0.05 and (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("resize", [resized_crop, *WAYS])
def test_a_whole_image_stays_as_it_is_or_is_flipped(resize):
    images = noise(3, 20)
    places, flip = torch.tensor([[0, 0, 20, 20]] * 3), torch.tensor([False, True, False])
    for layout in (torch.contiguous_format, torch.channels_last):
        out = resize(images.contiguous(memory_format=layout), places, flip, 20)
        assert torch.equal(out, torch.stack([images[0], images[1].flip(2), images[2]]))


def test_autocast_rounds_no_pixel():
    images, places, flip = noise(40, 32), boxes(View(0.08), 40, 32, 32, 28), torch.arange(40) % 3 == 0
    plain = _resize_together(images, places, flip, 28)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_resize_together(images, places, flip, 28), plain)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 50)])
def test_sizes_and_places_of_resized_crops_are_distributed_as_torchvisions(height, width):
    ours = boxes(View(0.08), 4000, height, width, 16).double().numpy()
    image = torch.zeros(3, height, width)
    torch.manual_seed(0)
    theirs = np.array([T.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()


def test_very_long_images_get_the_largest_crop_of_an_allowed_ratio():
    found = boxes(View(0.9), 50, 10, 100, 16)
    assert set(map(tuple, found[:, 2:].tolist())) == {(10, 13)}  # ratio 4/3


def test_plain_crops_have_the_output_size_and_reach_every_place():
    found = boxes(View(None), 2000, 16, 16, 14)
    assert (found[:, 2:] == 14).all()
    assert set(map(tuple, found[:, :2].tolist())) == {(i, j) for i in range(3) for j in range(3)}


def test_flips_are_flips_and_half_of_all():
    view, images = View(None), noise(400, 8)
    params = view.draw(400, 8, 8, generator(1))
    out = view.apply(images, params, 8)
    plain = normalise(images, *statistics("imagenet"))
    torch.testing.assert_close(out, torch.where(params.flip[:, None, None, None], plain.flip(3), plain))
    assert 0.4 < params.flip.float().mean() < 0.6


def test_autoaugment_is_torchvisions_and_leaves_the_global_generator_alone():
    image = noise(1, 24)[0]
    before = torch.get_rng_state()
    ours = [autoaugment(image, seed) for seed in range(6)]
    assert torch.equal(torch.get_rng_state(), before)
    for seed, out in enumerate(ours):
        torch.manual_seed(seed)
        assert torch.equal(out, T.AutoAugment()(image))
    assert sum(torch.equal(out, image) for out in ours) < 4


def test_autoaugment_does_not_seed_a_gpu(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(0)
    assert seeded == [0]  # torch's own function does this
    autoaugment(noise(1, 16)[0], 5)
    assert seeded == [0]


def test_autoaugment_follows_crop_and_flip():
    view, images = View(None, autoaugment=True), noise(6, 16)
    params = view.draw(6, 16, 16, generator(2))
    plain = View(None).apply(images, params, 16)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in statistics("imagenet"))
    pixels = ((plain * std + mean) * 255).round().to(torch.uint8)
    wanted = [autoaugment(image, seed) for image, seed in zip(pixels, params.seed.tolist(), strict=True)]
    torch.testing.assert_close(view.apply(images, params, 16), normalise(torch.stack(wanted), *statistics("imagenet")))


def test_the_published_protocols():
    assert AUGMENTATIONS["imagenet"] == (View(0.08), View(0.2, colour=True))
    assert AUGMENTATIONS["contrastive"] == (View(0.2, colour=True),) * 2
    for name, views in AUGMENTATIONS.items():
        assert any(view.autoaugment for view in views) == name.endswith("_autoaugment")
