"""Correlation congruence (Peng et al.)."""

from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over neighbours i, i + 1 of sum_d |delta_i,d| |delta_i+1,d|, where delta = student - teacher.

    Source: `distiller_zoo/CC.py` of HobbitLong/RepDistiller (which took it from the method's author).

    Args:
        student, teacher: embeddings (B, D), with the same D.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 for a single image, which has no neighbour.
    """
    delta = (student - teacher).abs()
    products = (delta[:-1] * delta[1:]).sum(1)
    return products.mean() if len(products) else products.sum()
