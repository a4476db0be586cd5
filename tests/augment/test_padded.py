"""The two views equal Pillow and torchvision: the same pixels for given parameters, the same distributions of draws."""

import itertools
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as TF
from PIL import Image
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cds_lib.augment import CIFAR, Colour, PaddedView
from cds_lib.augment import pixels as normalisation
from cds_lib.augment.batches import part_of
from cds_lib.augment.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, ColourParams
from cds_lib.augment.padded import PaddedParams
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, normalise
from toys import generator

VIEW1, VIEW2 = CIFAR
NEUTRAL = (1.0, 1.0, 1.0, 0.0)
STATS = (CIFAR_MEAN, CIFAR_STD)
ADJUST = {BRIGHTNESS: TF.adjust_brightness, CONTRAST: TF.adjust_contrast}
ADJUST |= {SATURATION: TF.adjust_saturation, HUE: TF.adjust_hue}
each_view = pytest.mark.parametrize("view", CIFAR)


def draw(view, n, size, seed):
    return view.draw(n, size, size, generator(seed))


def apply(view, images, params):
    return view.apply(images, params, images.shape[-1])


def make_images(n, size, seed=0):
    """Return noise, smooth gradients, nearly grey and fully saturated images in turn: (n, 3, size, size) uint8."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size)
    images = np.empty((n, 3, size, size), np.uint8)
    for i in range(n):
        noise = random.integers(0, 256, (3, size, size))
        smooth = np.outer(ramp, ramp[::-1]) * random.uniform(-200, 200, (3, 1, 1)) + random.uniform(40, 215, (3, 1, 1))
        grey = smooth[:1] + random.integers(-2, 3, (3, size, size))
        images[i] = np.clip((noise, smooth, grey, noise // 128 * 255)[i % 4], 0, 255)
    return torch.from_numpy(images)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def pixels(view):
    """Undo the normalisation and check that all values are whole numbers from 0 to 255."""
    x = (view.double() * torch.tensor(CIFAR_STD).view(3, 1, 1) + torch.tensor(CIFAR_MEAN).view(3, 1, 1)) * 255
    assert (x - x.round()).abs().max() < 1e-3
    return x.round().to(torch.int16)


def assert_same_pixels(view, expected):
    """`expected`: (B, 3, S, S) uint8. Other processors fuse Pillow's multiply-add, which rarely changes a pixel."""
    difference = (pixels(view) - expected).abs()
    if platform.machine() in ("x86_64", "AMD64"):
        assert difference.max() == 0
    else:
        assert (difference > 0).double().mean() < 1e-3


def cut_out(tensor, y, x):
    """Apply the Cutout of DeVries and Taylor as in the released code: one clipped hole of half the side."""
    side = tensor.shape[1]
    mask, half = np.ones((side, side), np.float32), side // 2 // 2
    (y1, y2), (x1, x2) = np.clip((y - half, y + half), 0, side), np.clip((x - half, x + half), 0, side)
    mask[y1:y2, x1:x2] = 0
    return tensor * torch.from_numpy(mask)


def by_pillow(view, images, params, size, padding):
    """Make the same views one by one, with torchvision's functions on Pillow images."""
    made = []
    for i, image in enumerate(images):
        padded = TF.pad(to_pil(image), padding, fill=view.fill)
        one = TF.crop(padded, int(params.top[i]), int(params.left[i]), size, size)
        one = TF.hflip(one) if params.flip[i] else one
        if params.colour and params.colour.jitter[i]:
            for operation in params.colour.order[i].tolist():
                one = ADJUST[operation](one, params.colour.factors[i, operation].item())
        if params.colour and params.colour.grey[i]:
            one = TF.to_grayscale(one, num_output_channels=3)
        one = TF.to_tensor(one)
        made.append(one if params.hole is None else cut_out(one, *params.hole[i].tolist()))
    return torch.stack(made).mul(255).round().to(torch.uint8)


def assert_as_pillow(view, images, params):
    size = images.shape[-1]
    assert_same_pixels(apply(view, images, params), by_pillow(view, images, params, size, size // 8))


def fixed_view2(n, size, order=(0, 1, 2, 3), factors=NEUTRAL, jitter=True, grey=False):
    """Return the same parameters for n images: the central crop of the padded image, without a flip."""
    middle, switch = torch.full((n,), size // 8), torch.zeros(n, dtype=torch.bool)
    colour = ColourParams(switch | jitter, torch.tensor([order] * n), torch.tensor([factors] * n), switch | grey)
    return PaddedParams(middle, middle, switch, None, colour)


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize(("view", "n"), [(VIEW1, 64), (replace(VIEW1, cutout=False), 64), (VIEW2, 128)])
def test_views_have_the_pixels_of_pillow(view, n, size):
    assert_as_pillow(view, make_images(n, size), draw(view, n, size, 1))


def test_every_order_of_the_jitter_has_the_pixels_of_pillow():
    orders = torch.tensor(list(itertools.permutations(range(4))))
    params = draw(VIEW2, 96, 16, 3)
    colour = params.colour._replace(order=orders.repeat(4, 1), jitter=torch.ones(96, dtype=torch.bool))
    assert_as_pillow(VIEW2, make_images(96, 16), params._replace(colour=colour))


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.033, 0.1])
def test_hue_of_a_quarter_million_colours_equals_pillow(shift):
    """Use every green and blue with four reds: 8-bit HSV rounding depends on the colour, so all sectors are needed."""
    green, blue = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    images = torch.stack([torch.stack([torch.full_like(green, red), green, blue]) for red in (0, 77, 128, 255)])
    assert_as_pillow(VIEW2, images.to(torch.uint8), fixed_view2(4, 256, factors=(1.0, 1.0, 1.0, shift)))


@pytest.mark.parametrize("jitter", [True, False])
@pytest.mark.parametrize("grey", [True, False])
def test_batches_in_which_all_or_none_are_jittered_or_grey(jitter, grey):
    images = make_images(8, 16)
    params = fixed_view2(8, 16, order=(3, 1, 0, 2), factors=(1.3, 0.7, 1.2, 0.05), jitter=jitter, grey=grey)
    assert_as_pillow(VIEW2, images, params)


@each_view
def test_an_image_is_augmented_the_same_alone_and_in_any_batch(view):
    images, params, other = make_images(24, 16), draw(view, 24, 16, 4), torch.randperm(24, generator=generator(5))
    before = images.clone()
    whole = apply(view, images, params)
    alone = [apply(view, images[i : i + 1], part_of(params, slice(i, i + 1))) for i in range(24)]
    assert torch.equal(whole, torch.cat(alone))
    assert torch.equal(whole[other], apply(view, images[other], part_of(params, other)))
    assert torch.equal(images, before)


@each_view
def test_views_are_normalised_floats_in_channels_last(view):
    images, params = make_images(10, 16), draw(view, 10, 16, 0)
    seen = apply(view, images, params)
    assert seen.dtype == torch.float32 and seen.shape == images.shape
    assert seen.is_contiguous(memory_format=torch.channels_last) and not seen.requires_grad
    assert pixels(seen).min() >= 0 and pixels(seen).max() <= 255
    assert torch.equal(seen, apply(view, images.contiguous(memory_format=torch.channels_last), params))


@pytest.mark.parametrize("side", [16, 160])  # larger images are normalised one by one
def test_normalise_equals_torchvision_and_survives_inference_mode(side):
    images = make_images(4, side)
    expected = TF.normalize(images.float() / 255, CIFAR_MEAN, CIFAR_STD)
    normalisation._scale_and_shift.cache_clear()
    with torch.inference_mode():  # statistics cached in evaluation must also work in training
        torch.testing.assert_close(normalise(images, *STATS), expected, rtol=0, atol=2e-6)
    view = normalise(images, *STATS)
    torch.testing.assert_close(view, expected, rtol=0, atol=2e-6)
    torch.nn.functional.conv2d(view, torch.ones(1, 3, 3, 3, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("side", [16, 160])
def test_normalised_images_go_to_their_places(side):
    images, places = make_images(4, side), torch.tensor([2, 0, 3, 1])
    plain, placed = normalise(images, *STATS), normalise(images.float(), *STATS, places)
    assert placed.is_contiguous(memory_format=torch.channels_last) and torch.equal(placed[places], plain)


@each_view
def test_draws_follow_from_the_generator_alone(view):
    first, again, other = ([v for v in tree_leaves(draw(view, 50, 32, seed)) if v is not None] for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    plain = draw(replace(view, cutout=False), 50, 32, 7)  # the hole changes no other draw
    assert plain.hole is None and all(torch.equal(a, b) for a, b in zip(plain[:3], first[:3], strict=True))


# Distributions. Seeds are fixed; a threshold of p = 1e-3 rejects a correct implementation for one seed in a thousand.
P_VALUE = 1e-3


def uniform_p(values, cells):
    return stats.chisquare(np.bincount(values.numpy(), minlength=cells)).pvalue


@pytest.mark.parametrize(("size", "places"), [(32, 9), (16, 5)])
@each_view
def test_crop_offsets_and_flips_are_uniform(view, size, places):
    n = 81_000
    params = draw(view, n, size, 10)
    assert uniform_p(params.top * places + params.left, places**2) > P_VALUE
    assert stats.binomtest(int(params.flip.sum()), n, 0.5).pvalue > P_VALUE
    assert uniform_p((params.top * places + params.left) * 2 + params.flip, 2 * places**2) > P_VALUE


def test_hole_centres_are_uniform_over_the_image():
    hole = draw(VIEW1, 102_400, 32, 11).hole
    assert hole.min() == 0 and hole.max() == 31
    assert uniform_p(hole[:, 0] * 32 + hole[:, 1], 1024) > P_VALUE


def test_jitter_and_grey_have_the_released_probabilities():
    n = 48_000
    colour = draw(VIEW2, n, 32, 12).colour
    assert stats.binomtest(int(colour.jitter.sum()), n, 0.8).pvalue > P_VALUE
    assert stats.binomtest(int(colour.grey.sum()), n, 0.2).pvalue > P_VALUE
    both = stats.chi2_contingency(stats.contingency.crosstab(colour.jitter.numpy(), colour.grey.numpy()).count)
    assert both.pvalue > P_VALUE  # drawn independently
    code = colour.order @ torch.tensor([64, 16, 4, 1])
    counts = torch.unique(code, return_counts=True)[1].numpy()
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > P_VALUE
    for operation, (low, high) in enumerate([(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)]):
        factors = colour.factors[:, operation].double().numpy()
        assert low - 1e-6 <= factors.min() and factors.max() <= high + 1e-6
        assert stats.kstest(factors, "uniform", (low, high - low)).pvalue > P_VALUE


class ReleasedCutout:
    def __call__(self, tensor):
        return cut_out(tensor, *torch.randint(tensor.shape[1], (2,)).tolist())


def released_pipelines(size):
    """Return the two pipelines of the released script, written with torchvision's classes."""
    last = T.Normalize(*STATS)
    flip = T.RandomHorizontalFlip()
    crop1, crop2 = T.RandomCrop(size, padding=size // 8, fill=128), T.RandomCrop(size, padding=size // 8)
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    view1 = T.Compose([crop1, flip, T.ToTensor(), ReleasedCutout(), last])
    return view1, T.Compose([crop2, flip, jitter, T.RandomGrayscale(p=0.2), T.ToTensor(), last])


@pytest.mark.parametrize("view", [1, 2])
def test_moments_of_many_draws_agree_with_the_released_pipeline(view):
    """Compare mean and spread of channels, quadrants and views over 2,000 draws of one asymmetric colour image."""
    n, size = 2000, 16
    image = make_images(2, size, seed=3)[1]
    image[0] = 255 - image[0] // 2
    images = image.expand(n, 3, size, size)
    with torch.random.fork_rng():
        torch.manual_seed(20)
        pipeline = released_pipelines(size)[view - 1]
        released = torch.stack([pipeline(to_pil(image)) for _ in range(n)])
    ours = apply(CIFAR[view - 1], images, draw(CIFAR[view - 1], n, size, 21))

    def summaries(views):
        quadrants = views.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).flatten(1)  # (n, 12)
        colourfulness = views.std(1).mean((1, 2))[:, None]
        return torch.cat([quadrants, views.mean((2, 3)), views.std((2, 3)), colourfulness], 1).double()

    a, b = summaries(released), summaries(ours)
    limit = stats.norm.isf(P_VALUE / 2 / (2 * a.shape[1]))  # Bonferroni over all means and spreads
    z_mean = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / n).sqrt()
    assert z_mean.abs().max() < limit
    square_a, square_b = (a - a.mean(0)) ** 2, (b - b.mean(0)) ** 2
    z_spread = (square_a.mean(0) - square_b.mean(0)) / ((square_a.var(0) + square_b.var(0)) / n).sqrt()
    assert z_spread.abs().max() < limit
    for column in range(a.shape[1]):
        assert stats.ks_2samp(a[:, column], b[:, column]).pvalue > P_VALUE / a.shape[1]


@each_view
@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2, 3, 16, 24, dtype=torch.uint8),
        torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
    ],
    ids=["float", "oblong", "one channel"],
)
def test_other_images_are_refused(view, images):
    with pytest.raises(ValueError, match="square uint8 images"):
        apply(view, images, draw(view, 2, 16, 0))


class DividingAsAGpu(TorchDispatchMode):
    """Divide by a number as a GPU does: multiply by its reciprocal."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket in (torch.ops.aten.div, torch.ops.aten.div_) and isinstance(args[1], int | float):
            multiply = torch.ops.aten.mul if operation.overloadpacket is torch.ops.aten.div else torch.ops.aten.mul_
            return multiply(args[0], torch.tensor(float(args[1])).reciprocal())
        return operation(*args, **(kwargs or {}))


@each_view
def test_a_gpu_makes_the_same_pixels(view):
    images, params = make_images(256, 32), draw(view, 256, 32, 0)
    with DividingAsAGpu():
        there = apply(view, images, params)
    assert torch.equal(pixels(there), pixels(apply(view, images, params)))


# -- what the released views do not have -------------------------------------------------------------------------------


def test_padding_strengths_and_size_are_arguments():
    view = PaddedView(fill=7, padding=5, colour=Colour((0.8, 0.8, 0.8, 0.2), jitter_p=1.0, grey_p=0.0))
    images, params = make_images(64, 16), view.draw(64, 16, 20, generator(6))
    assert params.top.min() == 0 and params.top.max() == 16 + 2 * 5 - 20
    low, high = params.colour.factors.min(0).values, params.colour.factors.max(0).values
    assert (low[:3] < 0.4).all() and (high[:3] > 1.6).all() and low[HUE] < -0.15 and high[HUE] > 0.15
    assert_same_pixels(view.apply(images, params, 20), by_pillow(view, images, params, 20, 5))


def test_no_hue_shift_is_none_as_in_torchvision():
    view = PaddedView(padding=0, colour=Colour((0, 0, 0, 0), jitter_p=1.0, grey_p=0.0))
    images = make_images(16, 32)
    params = view.draw(16, 32, 32, generator(0))._replace(flip=torch.zeros(16, dtype=torch.bool))
    assert_same_pixels(view.apply(images, params, 32), images)


@pytest.mark.parametrize("size", [16, 64])
def test_blur_and_solarisation_are_torchvisions(size):
    view = PaddedView(padding=0, colour=Colour(jitter_p=0.0, grey_p=0.0, blur_p=0.5, solarise_p=0.5))
    images = make_images(48, size)
    params = view.draw(48, size, size, generator(8))._replace(flip=torch.zeros(48, dtype=torch.bool))
    sigmas, solarise = params.colour.sigma, params.colour.solarised
    assert 12 < (sigmas > 0).sum() < 36 and 12 < solarise.sum() < 36
    assert sigmas[sigmas > 0].min() >= 0.1 and sigmas.max() <= 2
    kernel, expected = 2 * max(1, size // 20) + 1, []
    for image, sigma, solarised in zip(images, sigmas.tolist(), solarise.tolist(), strict=True):
        image = TF.gaussian_blur(image, kernel, sigma) if sigma else image
        expected.append(TF.solarize(image, 128) if solarised else image)
    difference = (pixels(view.apply(images, params, size)) - torch.stack(expected)).abs()
    # Values near a half may be rounded differently, and solarisation amplifies this at its threshold.
    assert ((difference > 0).double().mean() < 1e-3) and difference.median() == 0


def test_blur_and_solarisation_change_no_other_draw():
    plain, more = (PaddedView(colour=Colour(blur_p=p, solarise_p=p)).draw(50, 32, 32, generator(9)) for p in (0, 0.5))
    assert plain.colour.sigma is None and plain.colour.solarised is None
    pairs = zip(plain[:3] + plain.colour[:4], more[:3] + more.colour[:4], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blur_p": 1.5}, "must lie in 0 to 1"),
        ({"strength": (0.4, 0.4, 0.4, 0.6)}, "0 to 0.5 for the hue"),
        ({"blur_sigma": (0, 2)}, "blur_sigma must be .smallest, largest."),
    ],
)
def test_impossible_colours_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Colour(**changes)
