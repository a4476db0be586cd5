"""Batches show each image once, draw all randomness from (seed, epoch), and have one first view for 1 or 2 views."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from cds_lib.augment import AUGMENTATIONS, CIFAR, Batches, Colour, PaddedView, View, two_views
from cds_lib.augment.batches import epoch_generator, evaluation_batches
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, normalise
from cds_lib.augment.share import WHOLE, Share
from cds_lib.errors import UsageError
from toys import generator, noise


def data(n=50, size=16):
    """Return noise images, each labelled with its index."""
    images = np.random.default_rng(0).integers(0, 256, (n, 3, size, size), np.uint8)
    return torch.from_numpy(images), torch.arange(n)


def make(n=50, side=16, **options):
    return Batches(*data(n, side), **({"batch_size": 8, "seed": 3} | options))


def collect(batches, epoch=0):
    """Return an epoch as (list of views over the whole epoch, labels)."""
    views, labels, _ = zip(*batches.epoch(epoch), strict=True)
    return [torch.cat(view) for view in zip(*views, strict=True)], torch.cat(labels)


@pytest.mark.parametrize("views", [1, 2])
def test_an_epoch_shows_every_image_once_with_its_label(views):
    n = 40
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 16, 16).contiguous()
    batches = Batches(images, torch.arange(n), batch_size=8, seed=0, views=views, cutout=False)
    for batch_views, labels, index in batches.epoch(0):
        assert torch.equal(index, labels)  # image i has label i here
        assert len(batch_views) == views and labels.dtype == torch.int64
        assert all(view.shape == (8, 3, 16, 16) and view.dtype == torch.float32 for view in batch_views)
        # A shift of at most two pixels leaves the centre of a constant image inside the image.
        expected = normalise(images[labels], CIFAR_MEAN, CIFAR_STD)[..., 8, 8]
        torch.testing.assert_close(batch_views[0][..., 8, 8], expected)
    assert sorted(collect(batches)[1].tolist()) == list(range(n))


def test_one_view_and_two_views_see_the_same_order_and_first_view():
    (one,), labels1 = collect(make(views=1), epoch=2)
    (first, second), labels2 = collect(make(views=2), epoch=2)
    assert torch.equal(labels1, labels2) and torch.equal(one, first)
    assert not torch.equal(first, second)


def test_the_first_view_is_the_augmented_image():
    batches = make(views=1, cutout=True)
    (views,), labels = collect(batches, epoch=1)
    params = CIFAR[0].draw(50, 16, 16, epoch_generator(batches.seed, 1, 1, "cpu"))
    assert torch.equal(views, CIFAR[0].apply(batches.images[labels], params, 16))


def test_an_epoch_depends_on_seed_and_epoch_and_leaves_the_global_generators_alone():
    first, labels = collect(make(), epoch=4)
    torch.manual_seed(99)
    np.random.seed(99)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    batches = make()
    for epoch in (7, 0, 4):  # any order, as after resuming
        again, again_labels = collect(batches, epoch)
    assert torch.equal(labels, again_labels) and all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    for other in (collect(make(), epoch=5), collect(make(seed=4), epoch=4)):
        assert not torch.equal(labels, other[1])
        assert not any(torch.equal(a, b) for a, b in zip(first, other[0], strict=True))


def test_the_batch_size_only_cuts_the_epoch_differently():
    (a, b), labels = collect(make(batch_size=10))
    (c, d), other = collect(make(batch_size=25))
    assert torch.equal(labels, other) and torch.equal(a, c) and torch.equal(b, d)


@pytest.mark.parametrize("augmentation", ["cifar", "imagenet"])
@pytest.mark.parametrize("at_once", [2, 9])
def test_views_of_several_batches_at_once_are_those_of_each_one(augmentation, at_once):
    one, several = (make(augmentation=augmentation) for _ in range(2))
    several.at_once = at_once
    for batch, expected in zip(several.epoch(0), one.epoch(0), strict=True):
        assert len(batch[0]) == 2
        for found, tensor in zip((*batch[0], *batch[1:]), (*expected[0], *expected[1:]), strict=True):
            assert torch.equal(found, tensor) and found.stride() == tensor.stride()


def test_no_two_of_many_epochs_or_seeds_share_a_stream():
    states = {epoch_generator(s, e, k, "cpu").initial_seed() for s in range(12) for e in range(12) for k in range(3)}
    assert len(states) == 12 * 12 * 3


def test_without_cutout_only_the_holes_change():
    (cut, second_cut), labels = collect(make(cutout=True))
    (plain, second), other = collect(make(cutout=False))
    assert torch.equal(labels, other) and torch.equal(second_cut, second)
    black = normalise(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), CIFAR_MEAN, CIFAR_STD)
    hole = (cut != plain).any(1, keepdim=True).expand_as(cut)
    assert 0 < hole.float().mean() <= 0.25 and torch.equal(cut[hole], black.expand_as(cut)[hole])


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(12, 4, [4, 4, 4]), (14, 4, [4, 4, 4, 2]), (13, 4, [4, 4, 4]), (4, 4, [4]), (3, 2, [2])],
)
@pytest.mark.parametrize("views", [1, 2])
def test_the_last_batch_is_kept_unless_it_is_a_single_image(n, batch_size, sizes, views):
    batches = make(n=n, batch_size=batch_size, views=views)
    parts = list(batches.epoch(0))
    assert [len(labels) for _, labels, _ in parts] == sizes
    assert all(len(view) == len(labels) for seen, labels, _ in parts for view in seen)
    assert len(batches) == len(sizes)


def test_the_image_left_out_changes_with_the_epoch():
    batches = make(n=5, batch_size=4, views=1)
    left_out = {10 - int(collect(batches, epoch)[1].sum()) for epoch in range(40)}
    assert left_out == set(range(5))


def test_evaluation_shows_every_image_once_in_order():
    images, labels = data(n=21)
    parts = list(evaluation_batches(images, labels, 8))
    assert [len(y) for _, y in parts] == [8, 8, 5] and torch.equal(torch.cat([y for _, y in parts]), labels)
    assert torch.equal(torch.cat([x for x, _ in parts]), normalise(images, CIFAR_MEAN, CIFAR_STD))

    with pytest.raises(UsageError, match="a crop of 20 cannot be cut from images of 16"):
        next(evaluation_batches(images, labels, 8, size=20))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_other_augmentations_have_their_size_statistics_and_pairing(name):
    (first, second), labels = collect(make(augmentation=name, size=14), epoch=1)
    (alone,), same_labels = collect(make(augmentation=name, size=14, views=1), epoch=1)
    assert torch.equal(labels, same_labels) and torch.equal(first, alone) and not torch.equal(first, second)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    for view in (first, second):
        assert view.shape == (50, 3, 14, 14) and view.dtype == torch.float32
        pixels = (view * std + mean) * 255
        torch.testing.assert_close(pixels, pixels.round().clamp(0, 255), rtol=0, atol=1e-3)
    images, labels = data()
    (x, _), *_ = evaluation_batches(images, labels, 50, augmentation=name, size=14)
    torch.testing.assert_close((x * std + mean) * 255, images[..., 1:15, 1:15].float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 51}, "choose 2 to 50"),
        ({"batch_size": 1}, "choose 2 to 50"),
        ({"views": 3}, "views must be 1 or 2"),
        ({"seed": -1}, "non-negative"),
        ({"augmentation": "mixup"}, "choose one of cifar, imagenet"),
        ({"augmentation": "imagenet", "size": 17}, "side 17 cannot be cut from images of 16"),
        ({"size": 14}, "cifar views of side 14"),
        ({"augmentation": CIFAR[:1]}, "2 views of an image cannot be made by 1"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        make(**change)


def test_other_images_and_missing_labels_are_refused():
    images, labels = data()
    for other in (images.float(), images[:, :1], images[..., :12], images[:, 0], images.permute(0, 2, 3, 1)):
        with pytest.raises(UsageError, match=r"\(N, 3, S, S\) uint8"):
            Batches(other, labels, batch_size=8, seed=0)
    with pytest.raises(UsageError, match="as many labels"):
        Batches(images, labels[:-1], batch_size=8, seed=0)


def shares(make_batches, world):
    """Return, for each step of an epoch, the batch of a single process and the shares of all processes."""
    whole = list(make_batches(share=WHOLE).epoch(1))
    parts = [list(make_batches(share=Share(rank, world)).epoch(1)) for rank in range(world)]
    return zip(whole, zip(*parts, strict=True), strict=True)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("augmentation", ["cifar", "imagenet", "contrastive_autoaugment"])
def test_several_processes_see_the_pixels_that_one_sees(augmentation, world):
    sizes = []
    for (views, labels, index), parts in shares(partial(make, augmentation=augmentation, n=55), world):
        for view, own in zip(views, zip(*(part[0] for part in parts), strict=True), strict=True):
            assert torch.equal(torch.cat(own), view)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        assert all(torch.equal(part[2], index) for part in parts)
        sizes.append([len(part[1]) for part in parts])
    assert sizes[0] == [[4, 4], [3, 3, 2]][world - 2] and sizes[-1] == [[4, 3], [3, 2, 2]][world - 2]


def test_a_batch_that_is_too_small_for_the_processes_is_one_sentence():
    make(n=52, share=Share(1, 2))  # the last batch has four images
    with pytest.raises(UsageError, match="leave a batch of 4, .* in each of 3 processes: 2 is the largest number"):
        make(n=52, share=Share(0, 3))


# -- views of one batch, by name and of one's own ----------------------------------------------------------------------


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
