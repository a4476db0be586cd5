"""Pairs of views by the name of their protocol, and the views of one batch.

Sources: "cifar" and "imagenet" are the released code's. In "imagenet", view 1 is a resized crop of 8 to 100 % of the
area and a flip; view 2 is a resized crop of 20 to 100 %, a flip, jitter and greyscale. "contrastive" is view 2 twice,
as in HobbitLong/SupContrast. "finetune" is ours: a random crop of 7/8 of the image's side, a flip, and colour in view
2. "..._autoaugment" adds AutoAugment after the flip in view 1 of "imagenet", and replaces the colour in both views of
"contrastive" by it. This is our choice, because the published one is not known.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cds_lib.augment.padded import PaddedView
from cds_lib.augment.resized import View
from cds_lib.errors import UsageError

CIFAR = (PaddedView(fill=128, cutout=True), PaddedView(colour=True))
# For larger images, which can be decoded from files during training.
AUGMENTATIONS: dict[str, tuple[View, View]] = {
    "imagenet": (View(0.08), View(0.2, colour=True)),
    "contrastive": (View(0.2, colour=True), View(0.2, colour=True)),
    "finetune": (View(None), View(None, colour=True)),
    "imagenet_autoaugment": (View(0.08, autoaugment=True), View(0.2, colour=True)),
    "contrastive_autoaugment": (View(0.2, autoaugment=True), View(0.2, autoaugment=True)),
}


def views_of(augmentation: str) -> tuple[PaddedView | View, PaddedView | View]:
    """Return the two views of an augmentation; UsageError if the name is unknown."""
    if augmentation == "cifar":
        return CIFAR
    if augmentation not in AUGMENTATIONS:
        raise UsageError(f"Unknown augmentation {augmentation!r}: choose one of cifar, {', '.join(AUGMENTATIONS)}.")
    return AUGMENTATIONS[augmentation]


def statistics(augmentation: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation that an augmentation normalises with; UsageError if its name is unknown."""
    view, _ = views_of(augmentation)
    return view.mean, view.std


def two_views(
    images: Tensor,
    views: str | Sequence[PaddedView | View] = "cifar",
    size: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ...]:
    """Augment a batch on its own device, with random parameters for every image.

        view1, view2 = two_views(images)                          # the released views of CIFAR
        simclr = View(0.2, colour=Colour(blur_p=0.5))
        view1, view2 = two_views(images, (simclr, simclr), size=64)

    Args:
        images: (B, 3, S, S) uint8.
        views: the name of a protocol, or any number of views of your own.
        size: side of the views; None: S.
        generator: a generator on the CPU, or on the images' device; a GPU's would make the CPU wait. None: one on the
            CPU that `torch.manual_seed` governs.

    Returns:
        The views, each (B, 3, size, size) float32, normalised, channels_last.

    Raises:
        ValueError: if the images are not as above, the name is unknown, or the views are larger than a crop can be.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, images.shape[-1], images.shape[-1]):
        raise ValueError(f"Images must be (B, 3, S, S) uint8, not {tuple(images.shape)} {images.dtype}.")
    side = images.shape[-1]
    size = side if size is None else size
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    chosen: Sequence[Any] = views_of(views) if isinstance(views, str) else views
    draws = [moved(view.draw(len(images), side, size, generator), images.device) for view in chosen]
    return tuple(view.apply(images, params, size) for view, params in zip(chosen, draws, strict=True))


_READ = ("jitter", "order", "grey", "sigma", "solarised", "seed")  # the CPU reads these to arrange a batch


def moved(params: Any, device: torch.device) -> Any:
    """Move parameters drawn on the CPU to the device of the images, except those that the CPU reads."""
    if params is None:
        return None
    if isinstance(params, Tensor):
        return params.to(device, non_blocking=True)
    named = params._asdict().items()
    return type(params)(*(value if name in _READ else moved(value, device) for name, value in named))
