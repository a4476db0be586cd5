"""Attention-transfer loss (Zagoruyko and Komodakis): it compares where the maps of student and teacher are active."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between the attention maps of one stage.

    An attention map is the mean over the channels of the squared activations, flattened and L2-normalised per image.
    The larger of two maps is first average-pooled to the size of the smaller. Source: `distiller_zoo/AT.py` of
    HobbitLong/RepDistiller, p = 2.

    Args:
        student, teacher: maps (B, C, H, W) and (B, C', H', W').

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    if student.shape[2] > teacher.shape[2]:
        student = F.adaptive_avg_pool2d(student, (teacher.shape[2], teacher.shape[3]))
    elif student.shape[2] < teacher.shape[2]:
        teacher = F.adaptive_avg_pool2d(teacher, (student.shape[2], student.shape[3]))
    return F.mse_loss(_attention(student), _attention(teacher))


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().mean(1).flatten(1), dim=1)
