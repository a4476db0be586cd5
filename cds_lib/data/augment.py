"""The views of CIFAR as functions, which `cds_lib.augment.PaddedView` has replaced; works until 2.0."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from cds_lib.augment.padded import PaddedParams
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, normalise
from cds_lib.augment.views import CIFAR

__all__ = ["CIFAR_MEAN", "CIFAR_STD", "IMAGENET_MEAN", "IMAGENET_STD", "normalise"]

warnings.warn("cds_lib.data.augment is now cds_lib.augment; the old name works until 2.0.", DeprecationWarning, 2)


def draw_view1(n: int, size: int, generator: torch.Generator, cutout: bool = True) -> PaddedParams:
    return replace(CIFAR[0], cutout=cutout).draw(n, size, size, generator)


def draw_view2(n: int, size: int, generator: torch.Generator) -> PaddedParams:
    return CIFAR[1].draw(n, size, size, generator)


def apply_view1(images: Tensor, params: PaddedParams, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return replace(CIFAR[0], mean=mean, std=std).apply(images, params, images.shape[-1])


def apply_view2(images: Tensor, params: PaddedParams, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return replace(CIFAR[1], mean=mean, std=std).apply(images, params, images.shape[-1])
