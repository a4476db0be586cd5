"""Similarity-preserving distillation (Tung and Mori): which images of the batch resemble one another."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between the two B x B matrices of similarities, each row L2-normalised.

    A similarity is the scalar product of two images' flattened features. Source: `distiller_zoo/SP.py` of
    HobbitLong/RepDistiller.

    Args:
        student, teacher: features (B, ...), of any shape each.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
