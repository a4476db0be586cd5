"""Similarity of two representations: linear CKA, and the invariance of features to augmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Return linear centred kernel alignment (Kornblith et al. 2019, equation 4 in its feature form), 0 to 1.

    `first` (N, C) and `second` (N, D) are features of the same N images. The result does not change if either is
    rotated, scaled or shifted. It is NaN if either does not vary.
    """
    x, y = (features.double() - features.double().mean(0) for features in (first, second))
    norms = torch.linalg.matrix_norm(x.mT @ x) * torch.linalg.matrix_norm(y.mT @ y)
    return float(torch.linalg.matrix_norm(x.mT @ y).square() / norms)


def view_similarity(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Return the mean cosine similarity of features of two views of the same image, and of different images.

    `first` and `second` are (N, C), row i of both from image i, with at least two images. Each is centred on its own
    mean, because features after a ReLU lie in one corner of the space, where any two are alike. So different images
    come out near 0, and the first number alone says how much a view tells about its image (1: nothing else matters).
    """
    a, b = (F.normalize(features.double() - features.double().mean(0), dim=1) for features in (first, second))
    same = (a * b).sum(1)
    different = (a.sum(0) @ b.sum(0) - same.sum()) / (len(a) * (len(a) - 1))
    return float(same.mean()), float(different)
