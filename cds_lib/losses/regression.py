"""BYOL's loss: the squared distance between two L2-normalised vectors."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the batch of 2 - 2 cos(prediction, target), the squared distance of the normalised vectors.

    Args:
        prediction, target: (B, D). The target is a constant, which the caller detaches.

    Returns:
        A scalar from 0 (same direction) to 4 (opposite), float32 (float64 for float64 input).
    """
    return 2 - 2 * F.cosine_similarity(prediction, target).mean()
