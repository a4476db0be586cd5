"""BYOL's loss: the squared distance between two L2-normalised vectors."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of 2 - 2 cos(prediction, target), the squared distance of the two normalised vectors.

    Args:
        prediction, target: (B, D). The target is a constant for the caller to detach.

    Returns:
        A scalar from 0 (same directions) to 4 (opposite), float32 (float64 for float64 input).
    """
    return 2 - 2 * F.cosine_similarity(prediction, target).mean()
