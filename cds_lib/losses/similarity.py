"""Similarity-preserving loss (Tung and Mori): it compares which images of the batch resemble one another."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between the two B x B similarity matrices, with L2-normalised rows.

    A similarity is the scalar product of two images' flattened features. Source: `distiller_zoo/SP.py` of
    HobbitLong/RepDistiller.

    Args:
        student, teacher: features (B, ...); their shapes may differ.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
